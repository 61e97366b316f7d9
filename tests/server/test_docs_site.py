"""The documentation as the server serves it: each page, each link, and what goes with an answer."""

import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx2
import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.operations import OPERATIONS
from operator_api.server.docs import site
from operator_api.server.docs.library import FOLDER, Library
from tests.errors import assert_error
from tests.servers import Server, running
from tests.wire import Wire

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
LIBRARY = Library("http://127.0.0.1:8000")
PAGES = ["/docs/" + path if path else "/docs" for path in LIBRARY.paths]


class Page(HTMLParser):
    """What a page refers to, what can be referred to in it, and what a strict policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.forbidden: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag in {"script", "img"}:
            self.loaded.append(given.get("src", ""))
        if tag == "link" and given["rel"] != "alternate":
            self.loaded.append(given["href"])
        inline = tag == "style" or (tag == "script" and not given.get("src"))
        if inline or "style" in given or any(name.startswith("on") for name in given):
            self.forbidden.append(self.get_starttag_text() or tag)


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers=BROWSER) as client:
        yield client


@pytest.fixture(scope="module")
def pages(browser: httpx2.Client) -> dict[str, Page]:
    return {path: Page(browser.get(path).text) for path in [*PAGES, "/docs/search?q=retry"]}


# --- pages


@pytest.mark.parametrize("path", PAGES)
def test_each_page_answers(browser: httpx2.Client, path: str) -> None:
    response = browser.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(response.text)
    assert page.tags.count("h1") == page.tags.count("main") == 1
    assert len(page.ids) == len(set(page.ids))
    assert '<html lang="en">' in response.text
    assert page.links[0] == "#content"  # past the navigation, by keyboard


@pytest.mark.parametrize("path", PAGES)
def test_each_link_leads_somewhere(
    browser: httpx2.Client, pages: dict[str, Page], path: str
) -> None:
    dead = []
    for link in pages[path].links:
        target, anchor = urldefrag(urljoin(path, link))
        if urlsplit(target).netloc or not target.startswith("/docs"):
            continue
        if target in pages:
            dead += [link] * (bool(anchor) and anchor not in pages[target].ids)
        elif browser.get(target).status_code != 200:
            dead.append(link)
    assert dead == []


def test_no_link_of_the_pages_leads_to_another_host(pages: dict[str, Page]) -> None:
    outside = {link for page in pages.values() for link in page.links if "://" in link}
    assert outside == set()


def test_every_page_is_in_the_table_of_contents() -> None:
    """But those of single reasons, which are in the list of errors."""
    listed = {entry.path for entry in LIBRARY.contents}
    assert listed == {path for path in LIBRARY.paths if not path.startswith("errors/")}


def test_every_reason_is_in_the_list_of_errors(pages: dict[str, Page]) -> None:
    assert {f"/docs/errors/{reason}" for reason in CATALOGUE} <= set(pages["/docs/errors"].links)


def test_pages_can_be_read_one_after_the_other(browser: httpx2.Client) -> None:
    path, seen = "/docs", ["/docs"]
    while following := re.search(r'rel="next" href="([^"]+)"', browser.get(path).text):
        path = following[1]
        seen.append(path)
    assert seen == PAGES


def test_examples_have_the_address_of_this_server(server: Server, browser: httpx2.Client) -> None:
    page = browser.get("/docs/quickstart").text
    assert server.url in page
    assert server.url == LIBRARY.url("") or "http://127.0.0.1:8000" not in page


# --- the reason of an error


@pytest.mark.parametrize("reason", CATALOGUE)
def test_a_reason_is_html_markdown_and_json(server: Server, reason: str) -> None:
    kind = CATALOGUE[reason]
    with httpx2.Client(base_url=server.url) as client:
        views = {
            accept: client.get(f"/docs/errors/{reason}", headers={"Accept": accept})
            for accept in ("text/html", "text/markdown", "application/json", "*/*")
        }
    for accept, view in views.items():
        assert view.status_code == 200
        wanted = "text/markdown" if accept == "*/*" else accept
        assert view.headers["content-type"].partition(";")[0] == wanted
        assert all(text in _plain(view.text) for text in map(_plain, (reason, *kind.causes)))
    told = views["application/json"].json()
    assert told["reason"] == reason
    assert set(told["examples"]) == {"curl", "python"}
    assert server.url in told["examples"]["curl"]


def _plain(text: str) -> str:
    """Take out what the three views write in different ways."""
    return re.sub(r"<[^>]*>|&\w+;|&#\d+;|[\W_]", "", text)


# --- negotiation


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/markdown"),
        ("*/*", "text/markdown"),
        ("text/markdown", "text/markdown"),
        ("text/html", "text/html"),
        ("text/markdown, text/html;q=0.5", "text/markdown"),
        ("text/html;q=0, text/markdown", "text/markdown"),
        (BROWSER["Accept"], "text/html"),
    ],
)
def test_who_asks_for_html_gets_it(server: Server, accept: str | None, kind: str) -> None:
    with httpx2.Client(base_url=server.url) as client:
        if accept is None:
            del client.headers["Accept"]
        response = client.get("/docs/quickstart", headers={"Accept": accept} if accept else {})
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    assert response.headers["vary"] == "Accept"


def test_a_page_is_its_file_with_markdown_behind_it(server: Server) -> None:
    with httpx2.Client(base_url=server.url) as client:
        text = client.get("/docs/howto/deploy.md", headers=BROWSER).text
    source = (FOLDER / "howto" / "deploy.md").read_text(encoding="utf-8")
    assert text == source.replace("http://127.0.0.1:8000", server.url)


def test_llms_txt_leads_to_markdown(server: Server) -> None:
    with httpx2.Client(base_url=server.url) as client:
        index = client.get("/llms.txt")
        assert index.headers["content-type"] == "text/plain; charset=utf-8"
        found = re.findall(r"\]\(([^)]+)\)", index.text)
        assert len(found) > len(CATALOGUE)
        for url in found:
            assert url.startswith(server.url)
            assert client.get(url, headers={"Accept": "*/*"}).status_code == 200


# --- what is not there, or not allowed


@pytest.mark.parametrize("path", ["/docs/nope", "/docs/quickstart/more", "/docs/static/nope.css"])
def test_what_is_missing_is_an_error_for_programs_and_a_page_for_people(
    server: Server, browser: httpx2.Client, path: str
) -> None:
    with server.client(None) as client:
        assert_error(client.get(path), 404, "unknown_endpoint")
    page = browser.get(path)
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-error-reason"] == "unknown_endpoint"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-request-id"] in page.text


def test_a_misspelled_page_suggests_the_one_that_was_meant(browser: httpx2.Client) -> None:
    assert 'href="/docs/quickstart"' in browser.get("/docs/quickstat").text
    assert "Did you mean" in browser.get("/docs/quickstat").text


def test_an_unknown_reason_is_an_error_of_the_api(server: Server) -> None:
    with server.client(None) as client:
        assert_error(client.get("/docs/errors/nope"), 404, "resource_not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../pyproject.toml",
        "/docs/../../etc/passwd",
        "/docs/static/../site.py",
        "/docs/static/..%2fsite.py",
        "/docs/%2e%2e/%2e%2e/pyproject.toml",
        "/docs/static/%2fetc%2fpasswd",
        "/docs/client/../../README.md",
        "/docs//etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_documentation(server: Server, path: str) -> None:
    with Wire(server.address) as wire:
        sent = f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n"
        answer = wire.send(sent.encode()).answer()
    assert answer.status_code == 404
    assert "hatchling" not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_pages_are_read_only(server: Server, method: str) -> None:
    with server.client(None) as client:
        response = client.request(method, "/docs/quickstart")
        assert_error(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
        assert client.options("/docs/quickstart").headers["allow"] == "GET, HEAD, OPTIONS"


def test_what_a_page_cannot_be_is_refused(server: Server) -> None:
    with server.client(None) as client:
        for path in ("/docs/quickstart", "/docs/errors/required"):
            response = client.get(path, headers={"Accept": "image/png"})
            assert_error(response, 406, "not_acceptable")


def test_a_slash_at_the_end_is_taken_away(browser: httpx2.Client) -> None:
    response = browser.get("/docs/quickstart/")
    assert (response.status_code, response.headers["location"]) == (308, "/docs/quickstart")
    assert browser.get("/docs/").headers["location"] == "/docs"


# --- headers


@pytest.mark.parametrize("path", ["/docs", "/docs/search?q=x", "/docs/errors/required"])
def test_a_page_may_load_nothing_from_elsewhere_and_run_nothing_inline(
    browser: httpx2.Client, path: str
) -> None:
    response = browser.get(path)
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])


def test_no_page_has_anything_inline(pages: dict[str, Page]) -> None:
    assert {path: page.forbidden for path, page in pages.items() if page.forbidden} == {}


def test_what_pages_load_is_there_and_lasts(browser: httpx2.Client, pages: dict[str, Page]) -> None:
    loaded = {url for page in pages.values() for url in page.loaded}
    assert {urlsplit(url).path for url in loaded} >= {
        "/docs/static/page.css",
        "/docs/static/docs.js",
    }
    for url in loaded:
        response = browser.get(url)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert re.search(r"\?v=[0-9a-f]{12}$", url)


def test_what_is_known_is_not_sent_again(browser: httpx2.Client) -> None:
    first = browser.get("/docs/quickstart")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = browser.get("/docs/quickstart", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert browser.get("/docs", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/docs/static/docs.js", "/llms.txt"])
def test_head_is_get_without_the_body(browser: httpx2.Client, path: str) -> None:
    own = {"date", "x-request-id"}
    get, head = browser.get(path), browser.head(path)
    assert head.content == b""
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in get.headers.items() if name not in own
    }


# --- search


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("rate_limited", "/docs/errors/rate_limited"),
        ("expired token", "/docs/errors/expired_token"),
        ("quickst", "/docs/quickstart"),
        ("outage", "/docs/tutorials/outage"),
        ("OPERATOR_DRAIN_SECONDS", "/docs/reference/settings"),
        ("Idempotency-Key", "/docs/errors/idempotency_key_reused"),
    ],
)
def test_the_search_finds_it_early(server: Server, query: str, found: str) -> None:
    with httpx2.Client(base_url=server.url, headers={"Accept": "application/json"}) as client:
        hits = client.get("/docs/search", params={"q": query}).json()["data"]
    assert found in [urldefrag(hit["url"])[0] for hit in hits[:5]]
    assert set(hits[0]) == {"url", "title", "heading", "excerpt"}


@pytest.mark.parametrize(
    "query", ["", " ", "zzzzqqq", "<script>alert(1)</script>", "\x00", "é" * 500]
)
def test_any_query_is_answered(browser: httpx2.Client, query: str) -> None:
    response = browser.get("/docs/search", params={"q": query})
    assert response.status_code == 200
    assert "<script>alert" not in response.text


# --- elsewhere


def test_behind_a_proxy_every_address_begins_as_the_public_one(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    public = {"OPERATOR_PUBLIC_URL": "https://example.com/chat"}
    with (
        running(data, "--port", str(port), **public),
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=BROWSER) as client,
    ):
        texts = [client.get(path).text for path in ("/docs/quickstart", "/docs", "/docs/errors")]
        markdown = client.get("/docs/quickstart.md").text
        assert client.get("/docs/").headers["location"] == "/chat/docs"
    for page in map(Page, texts):
        for url in (*page.links, *page.loaded):
            assert url.startswith(("/chat/docs", "#")), url
    assert "https://example.com/chat/v1/users" in texts[0]
    assert "https://example.com/chat/v1/users" in markdown


def test_the_api_reference_runs_no_foreign_script(browser: httpx2.Client) -> None:
    response = browser.get("/docs/api")
    assert Page(response.text).forbidden == []
    assert "script-src 'self';" in response.headers["content-security-policy"]


@pytest.mark.parametrize("there", [True, False])
def test_the_api_reference_is_there_with_and_without_its_assets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    scalar = tmp_path / "scalar.js"
    monkeypatch.setattr(site, "SCALAR", scalar)
    if there:
        scalar.write_text("//")
    text = site.Site("http://127.0.0.1:8000")._make("api", "text/html").body.decode()
    assert ("/docs/static/scalar.js" in "".join(Page(text).loaded)) is there
    assert "/docs/reference/operations" in text
    assert ("This is the plain reference" in text) is not there
    assert all(operation.name in text for operation in OPERATIONS) is not there


def test_what_is_ours_is_small() -> None:
    static = FOLDER.parent / "static"
    assert sum(file.stat().st_size for file in static.iterdir()) < 30_000
