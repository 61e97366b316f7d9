"""The documentation in a real Chromium: both themes, by keyboard, nothing from elsewhere."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from operator_api.server.docs.site import SCALAR
from tests.docs.pages import ROOT
from tests.servers import Server

CHROMIUM = shutil.which("chromium")
AXE = ROOT / "web" / "vendor" / "axe.js"
Theme = Literal["light", "dark"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

# As root in a sandbox without a network, and looking nothing up by itself.
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_OPTIONS])
        yield browser
        browser.close()


class Visit:
    """A page that is looked at. What it asks of other hosts, and complains of, is kept."""

    def __init__(self, chromium: Browser, server: Server, **context: Any) -> None:
        self.context = chromium.new_context(base_url=server.url, **context)
        self.page: Page = self.context.new_page()
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self._own = (server.url, "data:", "blob:")
        self.page.on("request", self._requested)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(self._own):
            self.foreign.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_raised: object) -> None:
        self.context.close()
        assert self.foreign == []
        assert self.complaints == []


PATHS = (
    "/docs",
    "/docs/quickstart",
    "/docs/errors",
    "/docs/errors/rate_limited",
    "/docs/reference/settings",
    "/docs/search?q=retry",
    "/docs/nope",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_accessible_in_both_themes(
    chromium: Browser, server: Server, tmp_path: Path, path: str, theme: Theme
) -> None:
    with Visit(chromium, server, color_scheme=theme, bypass_csp=True) as visit:
        visit.page.goto(path)
        visit.page.screenshot(path=tmp_path / "page.png")
        if AXE.exists():
            visit.page.add_script_tag(path=AXE)
            found = visit.page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag22aa']})")
            assert [_told(each) for each in found["violations"]] == []
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (theme == "light")
        visit.complaints = [each for each in visit.complaints if "404" not in each]


def _told(violation: dict[str, Any]) -> tuple[str, list[str]]:
    return violation["id"], [each["html"] for each in violation["nodes"]]


def test_the_switch_changes_the_theme_and_it_stays(chromium: Browser, server: Server) -> None:
    with Visit(chromium, server, color_scheme="light") as visit:
        visit.page.goto("/docs/quickstart")
        visit.page.get_by_role("button", name="Change to the dark or light theme").click()
        assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
        visit.page.goto("/docs/errors")
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(20, 23, 28)"


def test_the_search_suggests_and_is_used_by_keyboard(chromium: Browser, server: Server) -> None:
    with Visit(chromium, server) as visit:
        visit.page.goto("/docs/quickstart")
        visit.page.keyboard.press("/")
        visit.page.keyboard.type("rate_limited")
        suggestions = visit.page.get_by_label("Suggestions").get_by_role("link")
        expect(suggestions.first).to_contain_text("429 rate_limited")
        visit.page.keyboard.press("ArrowDown")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/docs/errors/rate_limited*")
        visit.page.keyboard.press("/")
        visit.page.keyboard.type("outage")
        expect(visit.page.get_by_label("Suggestions")).to_be_visible()
        visit.page.keyboard.press("Escape")
        expect(visit.page.get_by_label("Suggestions")).to_be_hidden()
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/docs/search?q=outage")


@pytest.mark.parametrize(
    ("path", "copied"),
    [
        ("/docs/quickstart", "pip install 'operator-api[server]'\noperator-api serve"),
        ("/docs/errors/missing_token", "curl -si {url}/v1/me"),
    ],
)
def test_the_copy_button_copies_what_is_typed(
    chromium: Browser, server: Server, path: str, copied: str
) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with Visit(chromium, server, permissions=permissions) as visit:
        visit.page.goto(path)
        button = visit.page.locator("[data-language=shell], [data-language=console]").first
        button = button.locator(".copy")
        button.focus()
        visit.page.keyboard.press("Enter")
        expect(button).to_have_text("Copied")
        text = visit.page.evaluate("navigator.clipboard.readText()")
        assert text == copied.format(url=server.url)


def test_on_a_phone_nothing_is_wider_than_the_screen(chromium: Browser, server: Server) -> None:
    phone = {"width": 360, "height": 740}
    with Visit(chromium, server, viewport=phone) as visit:
        for path in (*PATHS[:-1], "/docs/reference/operations", "/docs/client/errors"):
            visit.page.goto(path)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360, path
        visit.page.get_by_role("link", name="Table of contents").click()
        visit.page.get_by_role("link", name="Survive an outage").click()
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Survive an outage")


def test_pages_are_read_and_searched_without_javascript(chromium: Browser, server: Server) -> None:
    with Visit(chromium, server, java_script_enabled=False) as visit:
        visit.page.goto("/docs/quickstart")
        expect(visit.page.locator(".theme")).to_be_hidden()
        visit.page.get_by_role("searchbox").fill("outage")
        visit.page.get_by_role("searchbox").press("Enter")
        expect(visit.page.get_by_role("link", name="Survive an outage").last).to_be_visible()


def test_the_skip_link_is_the_first_and_leads_to_the_content(
    chromium: Browser, server: Server
) -> None:
    with Visit(chromium, server) as visit:
        visit.page.goto("/docs/errors")
        visit.page.keyboard.press("Tab")
        focused = visit.page.locator(":focus")
        expect(focused).to_have_text("Skip to the content")
        expect(focused).to_be_in_viewport()
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate("document.activeElement.id") == "content"


@pytest.mark.skipif(not SCALAR.exists(), reason="web/fetch.py has not been run")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_api_reference_needs_nothing_from_elsewhere(
    chromium: Browser, server: Server, theme: Theme
) -> None:
    with Visit(chromium, server, color_scheme=theme) as visit:
        visit.page.goto("/docs/api")
        expect(visit.page.get_by_role("heading", name="Operator API")).to_be_visible()
        expect(visit.page.get_by_text("Create a user").first).to_be_visible()
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (theme == "light")
