"""The server's own log: whole lines, no secrets, no flood."""

import asyncio
import io
import json
import logging
import os
import pty
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from operator_api.contract.headers import parse_trace_id
from operator_api.server.logs import LINES_PER_SECOND, MOST_WAITING, Format, logging_to
from tests.calls import JSON, mint, new_email
from tests.servers import Server, running
from tests.wire import Wire

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
# What ends a line, colours a terminal, or turns the direction of what is read.
CONTROLS = ["\n", "\r", "\r\n", "\x1b[31m", "\x9b2J", "\x00", "\x08", "\x7f", "\x85"]
CONTROLS += ["\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"]
LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

log = logging.getLogger("operator_api.server")


@contextmanager
def written(form: Format, level: str = "info") -> Iterator[list[str]]:
    """Yield the list that the lines stand in afterwards."""
    stream, lines = io.StringIO(), list[str]()
    with logging_to(stream, form, level):
        yield lines
    lines += stream.getvalue().split("\n")[:-1]


def lines_of(server: Server) -> list[dict[str, Any]]:
    """Return the lines of a server that has stopped; each must be one of JSON."""
    text = "".join(server.errors)
    _, _, after = text.partition("Ready at ")
    return [json.loads(line) for line in after.split("\n")[1:] if line]


# --- lines ---


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_can_end_or_change_a_line(form: Format, control: str) -> None:
    evil = f"a{control}level=error"
    with written(form) as lines:
        log.warning("said %s", evil, extra={"request_id": evil, "other": evil, "more": [evil]})
        log.warning(evil)
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert not LINE_ENDS.search(line)
        if form == "json":
            assert line.isascii()
            assert json.loads(line)["level"] == "warning"


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_no_exception_can_end_or_change_a_line(control: str) -> None:
    for form in ("json", "text"):
        with written(form) as lines:
            try:
                raise ValueError(f"x{control}2026-01-31T12:00:00Z error   all is lost")
            except ValueError:
                log.exception("unexpected error")
        if form == "json":
            (line,) = lines
            assert "ValueError" in json.loads(line)["exception"]
        else:
            assert all(line.startswith("  | ") for line in lines[1:])
        assert all(line.isprintable() for line in lines)


def test_a_line_says_when_how_grave_and_what() -> None:
    before = datetime.now(UTC)
    with written("json") as lines:
        log.warning("said %s", "this", extra={"request_id": "req_1", "count": 3, "none": None})
    line = json.loads(lines[0])
    when = datetime.fromisoformat(line.pop("timestamp"))
    assert when.utcoffset() == before.utcoffset()
    assert abs((when - before).total_seconds()) < 5
    assert line == {
        "level": "warning",
        "event": "said this",
        "logger": "operator_api.server",
        "request_id": "req_1",
        "count": 3,
    }


def test_people_see_where_a_value_ends() -> None:
    with written("text") as lines:
        log.info("said", extra={"a": "one two", "b": "c=d", "e": 'f"'})
    assert lines[0].endswith(r'said  a="one two" b="c=d" e="f\""')


def test_libraries_go_through_the_same() -> None:
    with written("json") as lines:
        logging.getLogger("uvicorn.error").error("Invalid %s", "HTTP\n")
        logging.getLogger("asyncio").warning("Executing took too long")
        logging.getLogger("asyncio").info("not this")
    assert [json.loads(line)["logger"] for line in lines] == ["uvicorn.error", "asyncio"]
    assert json.loads(lines[0])["event"] == "Invalid HTTP\\n"


async def test_a_task_that_fails_unseen_goes_through_the_same() -> None:
    async def fail() -> None:
        raise ValueError("mine\x1b[2J")

    with written("json") as lines:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        await asyncio.sleep(0)
    assert any("ValueError" in json.loads(line).get("exception", "") for line in lines)
    assert all(line.isprintable() for line in lines)


def test_the_level_is_the_settings() -> None:
    for level, expected in {"debug": 4, "info": 3, "warning": 2, "error": 1}.items():
        with written("json", level) as lines:
            for name in ("debug", "info", "warning", "error"):
                getattr(log, name)("x")
        assert len(lines) == expected


def test_what_was_set_before_is_set_again() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, log.parent and log.parent.level
    with written("json"):
        assert root.handlers != before[0]
    assert (root.handlers, root.level, log.parent and log.parent.level) == before


def test_secrets_and_people_are_masked() -> None:
    secret = mint_like()
    with written("json") as lines:
        log.error("token %s of ada@example.com", secret, extra={"phone": "+14155550123"})
        try:
            raise ValueError(f"bad value {secret}, ada@example.com")
        except ValueError:
            log.exception("failed")
    text = "\n".join(lines)
    assert secret not in text
    assert "ada@" not in text
    assert "4155550123" not in text


def mint_like() -> str:
    return "op_live_" + "aB3" * 16 + "x"


@pytest.mark.parametrize(
    ("sent", "trace_id"),
    [
        (TRACEPARENT, TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01\n", None),
        ("", None),
    ],
)
def test_a_trace_id_is_one_of_w3c(sent: str, trace_id: str | None) -> None:
    assert parse_trace_id(sent) == trace_id


# --- nothing waits for it ---


class Stuck(io.StringIO):
    """A stream that nobody reads: a write takes until the test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.until = time.monotonic() + 1

    def write(self, text: str) -> int:
        time.sleep(max(0, self.until - time.monotonic()))
        return super().write(text)


def test_a_log_that_nobody_reads_drops_and_counts() -> None:
    began = time.monotonic()
    with logging_to(Stuck(), "json", "info") as kept:
        for _ in range(MOST_WAITING + 500):
            log.warning("x")
        assert time.monotonic() - began < 1
        assert kept.dropped >= 499


# --- requests ---


def test_each_failed_request_has_a_line_with_its_ids(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server, server.client() as api:
        headers = {"traceparent": TRACEPARENT}
        error = api.post("/v1/users", json={}, headers=headers).json()["error"]
        simulated = {"Operator-Simulate": "internal_error"}
        api.get("/v1/me", headers=simulated)
        api.get("/v1/me")
        server.stop()
    line, simulated_line = lines_of(server)
    assert line["event"] == "request failed"
    assert (line["level"], line["status"], line["reason"]) == ("info", 422, "validation_failed")
    assert (line["http_method"], line["http_route"]) == ("POST", "/v1/users")
    assert (line["request_id"], line["trace_id"]) == (error["request_id"], TRACE)
    assert line["token_id"].startswith("tok_")
    assert line["duration_ms"] > 0
    assert (simulated_line["level"], simulated_line["simulated"]) == ("info", True)


def test_an_error_of_ours_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server, server.client() as api:
        (server.data / "operator.sqlite3").rename(server.data / "away")
        assert api.post("/v1/users", json={"email": new_email()}).status_code == 503
        (server.data / "away").rename(server.data / "operator.sqlite3")
        server.stop()
    (line,) = (each for each in lines_of(server) if each["event"] == "request failed")
    assert (line["level"], line["reason"]) == ("error", "store_unavailable")


def test_at_debug_each_request_has_a_line(tmp_path: Path) -> None:
    with running(tmp_path / "data", OPERATOR_LOG_LEVEL="debug") as server, server.client() as api:
        api.get("/v1/me")
        server.stop()
    assert [each["status"] for each in lines_of(server) if each["event"] == "request"] == [200]


def test_a_flood_is_cut_short_and_counted(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        began = time.monotonic()
        with server.client() as api:
            for _ in range(400):
                api.get("/v1/nowhere")
            time.sleep(1.1)
            seconds = time.monotonic() - began
            api.get("/v1/nowhere")
        server.stop()
    lines = lines_of(server)
    said = [each for each in lines if each["event"] == "request failed"]
    left_out = [each["count"] for each in lines if "left out" in each["event"]]
    assert len(said) + sum(left_out) == 401
    assert len(said) <= LINES_PER_SECOND * (seconds + 2)
    assert left_out


def test_nothing_that_callers_send_breaks_a_line_or_is_told(tmp_path: Path) -> None:
    """Each value that a caller can choose, with controls, an email and a token in it."""
    with running(tmp_path / "data", OPERATOR_LOG_LEVEL="debug") as server:
        secret = mint(server)
        for each in CONTROLS:
            send_everywhere(server, f"ada@example.com {secret} {each}level=error{each}")
        with ThreadPoolExecutor(4) as threads:
            list(
                threads.map(lambda each: send_raw(server, each.encode(errors="replace")), CONTROLS)
            )
        server.stop()
    printed = "".join(server.errors).partition("Ready at ")[2]
    assert lines_of(server)
    for planted in ("ada@example.com", secret, secret[8:20], "level=error"):
        assert planted not in printed
    assert all(line.isprintable() for line in printed.split("\n"))


def send_everywhere(server: Server, value: str) -> None:
    sent = value.encode(errors="replace")
    in_header = re.sub(rb"[\x00\r\n]", b"?", sent)
    names = (b"x-request-id", b"traceparent", b"user-agent", b"idempotency-key", b"accept")
    with server.client() as api:
        api.request("GET", "/v1/users", params={"email": sent.decode(), sent.decode(): "x"})
        api.request("GET", httpx2.URL(server.url + "/").join("/v1/users/" + quoted(sent)))
        api.request("GET", "/" + quoted(sent))
        body = json.dumps({"email": sent.decode(), sent.decode(): sent.decode()})
        api.post("/v1/users", content=body, headers=JSON)
        api.post("/v1/users", content=b'{"a": "' + sent, headers=JSON)
        for name in names:
            api.post("/v1/users", content=b"{}", headers=[(name, in_header)])
        api.get("/v1/me", headers=[(b"operator-simulate", in_header)])
    with httpx2.Client(base_url=server.url) as nobody:
        nobody.get("/v1/me", headers=[(b"authorization", b"Bearer " + in_header)])


def quoted(value: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in value)


def send_raw(server: Server, value: bytes) -> None:
    with Wire(server.address) as wire:
        wire.send(b"GET /" + value + b" HTTP/1.1\r\nHost: " + value + b"\r\n\r\n").answer()


# --- who reads it ---


def test_on_a_terminal_it_is_for_people() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        with logging_to(terminal, "auto", "info"):
            log.warning("said")
        seen = os.read(leader, 1000).decode()
        with logging_to(terminal, "json", "info"):
            log.warning("said")
        assert json.loads(os.read(leader, 1000))["event"] == "said"
    os.close(leader)
    assert re.fullmatch(r"\S+Z warning said\r\n", seen)
