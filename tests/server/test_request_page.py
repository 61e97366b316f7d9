"""Where an error's ``log_url`` leads: the page of a logged request."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.errors import assert_error
from tests.servers import Server

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EMAIL = "planted.address@example.com"


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers=HTML) as client:
        yield client


@pytest.fixture(scope="module")
def failed(api: httpx2.Client) -> str:
    """Return the path of the page of a create that failed after one that did not."""
    assert api.post("/v1/users", json={"email": "page@example.com"}).status_code == 201
    answer = api.post("/v1/users", json={"emial": EMAIL})
    return urlsplit(str(answer.json()["error"]["log_url"])).path


def ask(browser: httpx2.Client, path: str, token: str, **form: str) -> httpx2.Response:
    return browser.post(path, data={"token": token, **form})


def test_the_page_asks_for_a_token_and_tells_nothing(browser: httpx2.Client, failed: str) -> None:
    page = browser.get(failed)
    assert page.status_code == 200
    assert 'method="post"' in page.text
    assert "validation_failed" not in page.text
    assert browser.head(failed).status_code == 200


def test_it_explains_the_request(server: Server, browser: httpx2.Client, failed: str) -> None:
    page = ask(browser, failed, server.token)
    assert page.status_code == 200
    for part in ("validation_failed", "Did you mean email?", "#/emial", "What to do", "curl"):
        assert part in page.text
    assert "The bodies, redacted" not in page.text


def test_it_shows_the_bodies_side_by_side(
    server: Server, browser: httpx2.Client, failed: str
) -> None:
    page = ask(browser, failed, server.token, reveal="true")
    assert "&lt;email 27&gt;" in page.text
    assert "The last success" in page.text
    assert EMAIL not in page.text


def test_neither_token_nor_page_is_kept(
    server: Server, browser: httpx2.Client, failed: str
) -> None:
    page = ask(browser, failed, server.token)
    assert server.token not in page.text
    assert "set-cookie" not in page.headers
    assert page.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("token", "status", "says"),
    [
        ("", 401, "malformed_authorization"),
        ("nonsense", 401, "invalid_token"),
        ("a b", 401, "malformed_authorization"),
        ("é\r\nX: y", 401, "malformed_authorization"),
    ],
)
def test_a_wrong_token_is_told_with_the_form(
    browser: httpx2.Client, failed: str, token: str, status: int, says: str
) -> None:
    page = ask(browser, failed, token)
    assert page.status_code == status
    assert says in page.text
    assert 'name="token"' in page.text
    assert "validation_failed" not in page.text


def test_a_lesser_token_and_another_environment_see_nothing(
    server: Server, browser: httpx2.Client, failed: str
) -> None:
    reader = server.cli("tokens", "create", "--name", "r", "--preset", "conversations")["token"]
    assert ask(browser, failed, reader).status_code == 403
    other = server.cli(
        "tokens", "create", "--name", "o", "--preset", "admin", "--environment", "live"
    )["token"]
    page = ask(browser, failed, other)
    assert page.status_code == 404
    assert "validation_failed" not in page.text


def test_an_unknown_request_is_not_found(server: Server, browser: httpx2.Client) -> None:
    assert ask(browser, "/console/requests/<script>", server.token).status_code == 404
    assert "<script>alert" not in browser.get("/console/requests/<script>alert(1)").text


def test_a_program_gets_the_explanation_itself(
    server: Server, api: httpx2.Client, failed: str
) -> None:
    assert api.get(failed).json()["reason"] == "validation_failed"
    assert_error(httpx2.get(server.url + failed), 401, "missing_token")


def test_other_methods_and_long_forms_are_refused(
    server: Server, browser: httpx2.Client, failed: str
) -> None:
    assert browser.delete(failed).status_code == 405
    assert ask(browser, failed, "x" * 5000).status_code == 413


def test_the_log_shows_the_look(server: Server, browser: httpx2.Client, failed: str) -> None:
    page = ask(browser, failed, server.token)
    with server.client() as api:
        look = api.get(f"/v1/requests/{page.headers['x-request-id']}").json()
    assert (look["operation"], look["status"]) == ("requests.get", 200)
