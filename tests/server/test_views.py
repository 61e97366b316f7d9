"""One error in three views: JSON, problem details (RFC 9457), and Markdown for agents."""

import json
import re
from typing import Any

import httpx2
import pytest
from markdown_it import MarkdownIt

from tests.calls import JSON
from tests.errors import assert_error, assert_error_object
from tests.servers import Server

VIEWS = ["application/json", "application/problem+json", "text/markdown"]
MARKDOWN = MarkdownIt("commonmark").enable("table")

# Requests that are refused in different steps of the pipeline.
REFUSED: dict[str, dict[str, Any]] = {
    "unknown_endpoint": {"method": "GET", "url": "/v1/nowhere"},
    "method_not_allowed": {"method": "DELETE", "url": "/v1/users"},
    "resource_not_found": {"method": "GET", "url": "/v1/users/x"},
    "invalid_parameter": {"method": "GET", "url": "/v1/users?limit=0&nope=1"},
    "unsupported_media_type": {"method": "POST", "url": "/v1/users", "content": b"{}"},
    "invalid_json": {"method": "POST", "url": "/v1/users", "content": b"{", "headers": JSON},
    "validation_failed": {"method": "POST", "url": "/v1/users", "json": {"phone": 1, "emial": "x"}},
}


def send(api: httpx2.Client, request: dict[str, Any], accept: str | None) -> httpx2.Response:
    headers = {**request.get("headers", {}), **({"Accept": accept} if accept is not None else {})}
    return api.request(**{**request, "headers": headers})


def without_ids(error: dict[str, Any]) -> str:
    return re.sub(r"req_[0-9a-f]{32}", "req_…", json.dumps(error))


@pytest.mark.parametrize("reason", REFUSED)
def test_problem_details_carry_the_same_error(api: httpx2.Client, reason: str) -> None:
    plain = assert_error(send(api, REFUSED[reason], "application/json"), *expected(api, reason))
    response = send(api, REFUSED[reason], "application/problem+json")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    error = problem["error"]
    assert_error_object(error)
    assert without_ids(error) == without_ids(plain)
    assert list(problem) == ["type", "title", "status", "detail", "instance", "error"]
    assert problem["type"] == error["doc_url"]
    assert problem["status"] == response.status_code == error["code"]
    assert problem["detail"] == error["message"]
    assert problem["instance"] == error["log_url"]
    assert problem["title"] in api.get(error["doc_url"]).text


def expected(api: httpx2.Client, reason: str) -> tuple[int, str]:
    return api.get(f"/v1/errors/{reason}").json()["status"], reason


@pytest.mark.parametrize("reason", REFUSED)
def test_markdown_tells_an_agent_all_it_needs(api: httpx2.Client, reason: str) -> None:
    error = send(api, REFUSED[reason], "application/json").json()["error"]
    response = send(api, REFUSED[reason], "text/markdown")
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    page = response.text
    assert page.startswith(f"# {error['code']} ")
    for said in ("message", "reason", "hint", "outcome", "doc_url"):
        assert error[said] in page
    assert response.headers["x-request-id"] in page
    rows = tables(page)
    assert len(rows) == len(error["errors"])
    for row, each in zip(rows, error["errors"], strict=True):
        assert each["pointer"] in row[0]
        assert each["reason"] in row[1]
        assert each["message"] in row[2]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reason", REFUSED)
def test_the_headers_are_the_same_in_every_view(api: httpx2.Client, reason: str, view: str) -> None:
    own = {"content-type", "content-length", "x-request-id", "date", "ratelimit"}
    plain = send(api, REFUSED[reason], None).headers
    viewed = send(api, REFUSED[reason], view).headers
    assert {name: plain[name] for name in plain if name not in own} == {
        name: viewed[name] for name in viewed if name not in own
    }


# --- which view ---

CHOICES = [
    (None, "application/json"),
    ("", "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("text/*", "text/markdown"),
    ("APPLICATION/Problem+JSON", "application/problem+json"),
    ("application/problem+json, application/json", "application/json"),
    ("application/json;q=0.5, application/problem+json", "application/problem+json"),
    ("application/json;q=0.5, application/problem+json;q=0.4", "application/json"),
    ("text/markdown;q=0.9, */*;q=0.1", "text/markdown"),
    ("text/html, text/markdown;q=0.2", "text/markdown"),
    ("application/json;q=0, */*", "application/problem+json"),
    ("application/json;q=0, application/problem+json;q=0, */*;q=0.1", "text/markdown"),
    ("*/*;q=0.1, application/*;q=0", "text/markdown"),
    ("application/json;charset=utf-8;q=0.1, text/markdown;q=0.2", "text/markdown"),
    # What browsers send, and HTTP clients that prefer something else but take all.
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
    ("application/xml, */*", "application/json"),
]
REFUSING = [
    "text/html",
    "text/html,application/xhtml+xml",
    "application/xml",
    "image/*",
    "*/*;q=0",
    "application/json;q=0",
    "application/json;q=x",
    "nonsense",
    "\xff",
]


@pytest.mark.parametrize(("accept", "view"), CHOICES)
def test_the_accept_header_chooses_the_view(
    api: httpx2.Client, accept: str | None, view: str
) -> None:
    with httpx2.Client(base_url=api.base_url, headers={"Accept": accept or ""}) as client:
        if accept is None:
            del client.headers["accept"]
        response = client.get("/v1/me")
    assert response.status_code == 401
    assert response.headers["content-type"].partition(";")[0] == view


@pytest.mark.parametrize("accept", REFUSING)
def test_what_accepts_none_of_the_views_gets_406_in_json(api: httpx2.Client, accept: str) -> None:
    response = api.get("/v1/users", headers=[(b"accept", accept.encode("latin-1"))])
    error = assert_error(response, 406, "not_acceptable")
    assert error["metadata"] == {"available": VIEWS}


@pytest.mark.parametrize("accept", REFUSING)
def test_an_earlier_error_is_told_in_json_even_so(server: Server, accept: str) -> None:
    with server.client(None) as nobody:
        response = nobody.get("/v1/users", headers=[(b"accept", accept.encode("latin-1"))])
    assert_error(response, 401, "missing_token")


def test_several_accept_headers_are_one_list(api: httpx2.Client) -> None:
    headers = [("Accept", "text/html"), ("Accept", "text/markdown")]
    assert api.get("/v1/nowhere", headers=headers).headers["content-type"].startswith("text/markd")


# --- names of the caller's in Markdown ---

HOSTILE = [
    "a|b",
    "a`b",
    "```",
    "a\nb",
    "# heading",
    "\n\n# heading\n\n",
    "|\n| --- |",
    "[click](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "<script>alert(1)</script>",
    "<!-- ",
    "<http://evil.example>",
    "**bold**",
    "a_b_c",
    "_emphasis_",
    "*emphasis*",
    "\\",
    "a\\|b",
    "&lt;b&gt;",
    "\u2028",
    "\r",
    "    code",
    "- item",
    "1. item",
    "> quote",
    "\x00\x1b[31m",
    "\u202egnp.exe",
]


def tables(page: str) -> list[list[str]]:
    """Return the body rows of the page's tables, as a reader of Markdown sees their cells."""
    rows: list[list[str]] = []
    for token in MARKDOWN.parse(page):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(each.content for each in token.children or []))
    return [row for row in rows if row[:2] != ["where", "reason"] and len(row) == 4]


def structure(page: str) -> list[str]:
    """Return what the page is made of, without its text."""
    kinds = []
    for token in MARKDOWN.parse(page):
        kinds.append(token.type)
        kinds += [each.type for each in token.children or [] if each.type != "text"]
    return kinds


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_no_name_of_a_field_can_break_the_markdown(api: httpx2.Client, name: str) -> None:
    def page(field: str) -> str:
        body = {"email": "ada@example.com", field: 1}
        return send(api, {"method": "POST", "url": "/v1/users", "json": body}, "text/markdown").text

    assert structure(page(name)) == structure(page("zzz"))
    assert "evil.example>" not in page(name)


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_no_name_of_a_parameter_can_break_the_markdown(api: httpx2.Client, name: str) -> None:
    def page(parameter: str) -> str:
        headers = {"Accept": "text/markdown"}
        return api.get("/v1/users", params={parameter: "1"}, headers=headers).text

    assert structure(page(name)) == structure(page("zzz"))
