"""``operator-api failures``: a client's log of failures, listed, shown, explained and exported."""

import base64
import csv
import io
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from operator_api.cli import program
from operator_api.cli.failures import _parse_since
from operator_api.client.failures.attempt import FailedAttempt
from operator_api.client.failures.entries import FailureEntry, read
from operator_api.client.failures.log import FailureLog
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.fields import to_microseconds
from operator_api.vault.file_keys import key_file
from tests.client.test_failure_log import ATTEMPT
from tests.test_cli import complains, fails, succeeds

KEY = bytes(range(32))
KEYS = base64.b64encode(KEY).decode()
MINUTE = 60_000_000
NOW = to_microseconds(datetime.now(UTC))

ATTEMPTS: dict[str, FailedAttempt] = {
    "timeout": replace(
        ATTEMPT, at=NOW - 90 * MINUTE, status=None, reason=None, request_id=None, attempt=1,
        error="APITimeoutError", outcome="unknown", message="no answer in time \x1b[31m",
        call_id="call_1", idempotency_key="key-1", elapsed_ms=5000, delay=0.25, response_body=None,
    ),
    "refused": replace(
        ATTEMPT, at=NOW - 89 * MINUTE, attempt=2, call_id="call_1", idempotency_key="key-1",
        request_id="req_1", delay=None,
    ),
    "again": replace(
        ATTEMPT, at=NOW - 3 * MINUTE, status=409, reason="idempotency_in_progress", attempt=1,
        call_id="call_2", idempotency_key="key-1", request_id="req_2", delay=1.0,
        error="ConflictError",
    ),
    "proxy": replace(
        ATTEMPT, at=NOW - 2 * MINUTE, operation="users.get", method="GET", path="/v1/me",
        status=502, reason=None, request_id=None, call_id="call_3", idempotency_key=None, attempt=1,
        error="InternalServerError", message="=1+1", delay=None, outcome="not_executed",
        response_body=b"<html>Bad gateway</html>",
    ),
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a log with one of each, sealed by KEY."""
    path = tmp_path / "failures.jsonl"
    log = FailureLog(path, [KEY])
    for attempt in ATTEMPTS.values():
        log.record(attempt)
    return path


@pytest.fixture
def ids(path: Path) -> dict[str, str]:
    """Return the ids of the entries, by what they are called here."""
    return dict(zip(ATTEMPTS, (entry.id for entry in read(path)), strict=True))


Run = Callable[..., str]


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command on the log in this process, for speed."""
    monkeypatch.setenv("OPERATOR_FAILURE_LOG", str(path))
    monkeypatch.setenv("OPERATOR_SECRET_KEYS", KEYS)

    def run_here(*arguments: str, code: int = 0) -> str:
        assert program.run(("failures", *arguments)) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run_here


def listed(run: Run, *filters: str) -> list[str]:
    data = json.loads(run("list", *filters, "--json"))["data"]
    names = {attempt.at: name for name, attempt in ATTEMPTS.items()}
    return [names[entry["at"]] for entry in data]


# --- list -----------------------------------------------------------------------------------------


def test_the_newest_is_listed_first(path: Path, ids: dict[str, str]) -> None:
    lines = succeeds("failures", "list", "--log", str(path)).splitlines()
    assert lines[0].split() == ["FAILURE", "WHEN", "OPERATION", "STATUS", "REASON", "TRY", "THEN"]
    assert [line.split()[0] for line in lines[1:]] == [ids[name] for name in reversed(ATTEMPTS)]
    assert "retry in 0.25s" in lines[4]
    assert "none" in lines[4]
    assert "InternalServerError" in lines[1], "where there is no reason"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["proxy", "again", "refused", "timeout"]),
        (["--limit", "1"], ["proxy"]),
        (["--limit", "0"], ["proxy", "again", "refused", "timeout"]),
        (["--status", "409"], ["again"]),
        (["--status", "4xx"], ["again", "refused"]),
        (["--status", "none"], ["timeout"]),
        (["--reason", "validation_failed"], ["refused"]),
        (["--operation", "users.get"], ["proxy"]),
        (["--since", "1h"], ["proxy", "again"]),
        (["--since", "2020-01-01T00:00:00Z", "--status", "5xx"], ["proxy"]),
        (["--request-id", "req_2"], ["again"]),
        (["--request-id", "call_1"], ["refused", "timeout"]),
        (["--key", "key-1"], ["again", "refused", "timeout"]),
        (["--key", "key-1", "--status", "5xx"], []),
        (["--reason", "overloaded"], []),
    ],
)
def test_filters(run: Run, filters: list[str], expected: list[str]) -> None:
    assert listed(run, *filters) == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--status", "9"], "422, a class such as 5xx, or none"),
        (["--status", "4²2"], "422, a class such as 5xx, or none"),
        (["--since", "yesterday"], "30m or 90d"),
        (["--since", "2026-01-31T12:00:00"], "names its zone"),
        (["--reason", "validaton_failed"], "Did you mean validation_failed?"),
        (["--operation", "user.create"], "Did you mean users.create?"),
        (["--limit", "-1"], "--limit"),
        (["--staus", "409"], "Did you mean --status?"),
    ],
)
def test_a_wrong_filter_is_told(run: Run, arguments: list[str], says: str) -> None:
    told = run("list", *arguments, code=2)
    assert says in told
    assert told.startswith("Error: ")


def test_since_is_a_duration_or_a_time() -> None:
    assert _parse_since("2026-01-31T12:00:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert 3500 < (datetime.now(UTC) - _parse_since("1h")).total_seconds() < 3700


def test_lines_that_are_none_are_counted(path: Path, run: Run) -> None:
    with path.open("ab") as file:
        file.write(b'{"v":1,"at":17')
    assert json.loads(run("list", "--json"))["skipped"] == 1


def test_an_empty_log_has_no_failures(tmp_path: Path) -> None:
    file = tmp_path / "failures.jsonl"
    file.touch()
    assert succeeds("failures", "list", "--log", str(file)) == ""
    fails("failures", "show", "last", "--log", str(file), code=1, reason="resource_not_found",
          says=("There is no failure",))  # fmt: skip


# --- show -----------------------------------------------------------------------------------------


def test_one_is_shown_with_its_bodies(run: Run, ids: dict[str, str]) -> None:
    shown = run("show", ids["refused"])
    assert "request_id: req_1\n" in shown
    assert "  Authorization: <secret 64>\n" in shown
    assert '    "emial": "<email 15>",\n' in shown
    document = json.loads(run("show", ids["refused"], "--json"))
    assert document["bodies"]["response"] == {
        "error": {"code": 422, "message": "Email is required."}
    }
    assert document["bodies_missing"] is None
    assert run("show", "last").startswith(f"id: {ids['proxy']}\n")


def test_an_answer_cannot_steer_the_terminal(run: Run, ids: dict[str, str]) -> None:
    for command in ("show", "explain"):
        printed = run(command, ids["timeout"])
        assert "\x1b" not in printed
        assert "no answer in time \\x1b[31m" in printed
    assert "\x1b" not in run("export", "--format", "csv")


def test_without_the_key_it_says_what_is_needed(path: Path, ids: dict[str, str]) -> None:
    arguments = ("failures", "show", ids["refused"], "--log", str(path), "--json")
    other = base64.b64encode(bytes(32)).decode()
    for printed, needed in (
        (succeeds(*arguments), "Set OPERATOR_SECRET_KEYS"),
        (succeeds(*arguments, OPERATOR_SECRET_KEYS=other), "another key"),
    ):
        document = json.loads(printed)
        assert document["bodies"] is None
        assert needed in document["bodies_missing"]
        assert document["key_id"] in document["bodies_missing"]
        assert document["status"] == 422
    key_file(path).write_text(KEYS)
    assert json.loads(succeeds(*arguments))["bodies"]["request"]["name"] == "<string 3>"


def test_what_was_never_sealed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPERATOR_SECRET_KEYS", raising=False)
    file = tmp_path / "plain.jsonl"
    FailureLog(file).record(ATTEMPT)
    document = json.loads(succeeds("failures", "show", "last", "--log", str(file), "--json"))
    assert "had no key" in document["bodies_missing"]


def test_an_unusable_key_is_told_and_not_shown(path: Path) -> None:
    told = fails(
        "failures", "show", "last", "--log", str(path), code=1, reason="key_unusable",
        says=("OPERATOR_SECRET_KEYS", "32 bytes"), OPERATOR_SECRET_KEYS="c2VjcmV0",
    )  # fmt: skip
    assert "c2VjcmV0" not in json.dumps(told)


def test_a_changed_line_is_told(path: Path, ids: dict[str, str]) -> None:
    path.write_bytes(path.read_bytes().replace(b'"status":422', b'"status":500'))
    error = fails(
        "failures", "show", ids["refused"], "--log", str(path), code=1, reason="entry_tampered",
        says=("not as it was written", "grep"), OPERATOR_SECRET_KEYS=KEYS,
    )  # fmt: skip
    assert error["metadata"]["id"] == ids["refused"]
    assert " 500 " in succeeds("failures", "list", "--log", str(path)), "it opens nothing to list"


def test_an_id_that_is_not_there(path: Path, ids: dict[str, str]) -> None:
    near = ids["again"][:-1] + ("0" if ids["again"][-1] != "0" else "1")
    says = (f"There is no failure {near}", f"Did you mean {ids['again']}?", "failures list --log")
    fails("failures", "show", near, "--log", str(path), code=1, reason="resource_not_found",
          says=says)  # fmt: skip
    secret = "op_live_0123456789"
    assert secret not in complains(
        "failures", "explain", secret, "--log", str(path), code=1, says=("of this id",)
    )


# --- explain --------------------------------------------------------------------------------------


def test_one_is_explained_with_all_that_was_tried(run: Run, ids: dict[str, str]) -> None:
    page = run("explain", ids["refused"])
    kind = CATALOGUE["validation_failed"]
    assert page.startswith("# users.create failed: 422 validation_failed\n")
    assert f"- {kind.causes[0]}" in page
    assert kind.hint in page
    assert "- Documentation: https://api.example.com/docs/errors/validation_failed" in page
    tried = page.partition("## What was tried\n\n")[2].splitlines()
    assert [line[0] for line in tried] == ["1", "2", "3"], "the same call, then the same key"
    assert "APITimeoutError after 5000 ms, then waited 0.25 s" in tried[0]
    assert tried[1].endswith("422 validation_failed after 12 ms, then gave up (this one)")

    document = json.loads(run("explain", ids["refused"], "--json"))
    assert document["causes"] == list(kind.causes)
    assert document["retry"] == {"retryable": False, "action": "fix_request"}
    assert [attempt["id"] for attempt in document["attempts"]] == [
        ids[name] for name in ("timeout", "refused", "again")
    ]


@pytest.mark.parametrize(
    ("name", "says", "action"),
    [
        ("timeout", ["No answer in time", "`key-1` it is done at most once"], "check_outcome"),
        ("proxy", ["not of this API", "502 without a reason"], "retry_with_backoff"),
        ("again", ["409 idempotency_in_progress"], "wait"),
    ],
)
def test_what_has_no_reason_is_explained_too(
    run: Run, ids: dict[str, str], name: str, says: list[str], action: str
) -> None:
    page = run("explain", ids[name])
    assert all(part in page for part in [*says, f"(`{action}`)"])
    document = json.loads(run("explain", ids[name], "--json"))
    assert document["retry"]["action"] == action
    assert (document["doc_url"] is None) is (name != "again")


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_every_reason_is_explained(tmp_path: Path, run: Run, reason: str) -> None:
    file = tmp_path / "one.jsonl"
    status = CATALOGUE[reason].status
    FailureLog(file).record(replace(ATTEMPT, reason=reason, status=status))
    page = run("explain", "last", "--log", str(file))
    assert f"/docs/errors/{reason}" in page
    assert CATALOGUE[reason].fix in page


# --- export ---------------------------------------------------------------------------------------


def test_lines_of_json_are_exported(run: Run, ids: dict[str, str]) -> None:
    rows = [json.loads(line) for line in run("export", "--bodies").splitlines()]
    assert [row["id"] for row in rows] == list(ids.values()), "oldest first"
    assert rows[1]["bodies"]["request"]["status"] == "open"
    assert "bodies" not in json.loads(run("export", "--status", "409"))


def test_a_table_is_exported(run: Run, ids: dict[str, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("export", "--format", "csv"))))
    assert [row["id"] for row in rows] == list(ids.values())
    assert rows[3]["message"] == "'=1+1", "no formula"
    assert rows[0]["status"] == ""
    columns = {name for name in FailureEntry.__slots__ if name[0] != "_"}
    assert set(rows[0]) == columns


def test_an_export_to_a_file_is_for_its_owner(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done: dict[str, Any] = json.loads(
        run("export", "--format", "csv", "--out", str(out), "--since", "1h", "--json")
    )
    assert done == {"exported": 2, "format": "csv", "out": str(out), "skipped": 0}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert len(out.read_text().splitlines()) == 3
    assert "exists already" in run("export", "--out", str(out), code=2)
    assert "cannot be written" in run("export", "--out", str(tmp_path / "no" / "x"), code=1)
    assert "a file of their own" in run("export", "--json", code=2)


# --- where there is no log ------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["list"], ["show", "last"], ["explain", "last"], ["export"]])
def test_no_log(command: list[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    says = ("There is no log of failures", str(missing), "OperatorAI(failure_log=")
    complains("failures", *command, "--log", str(missing), code=1, says=says)


def test_the_log_is_found_where_a_client_writes_it(tmp_path: Path) -> None:
    error = fails(
        "failures", "list", code=1, reason="log_missing", says=("failures.jsonl",),
        XDG_STATE_HOME=str(tmp_path),
    )  # fmt: skip
    place = Path(error["metadata"]["path"])
    assert place == tmp_path / "operator-api" / "failures.jsonl"
    FailureLog(place, [KEY]).record(ATTEMPT)
    assert ATTEMPT.operation in succeeds("failures", "list", XDG_STATE_HOME=str(tmp_path))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    fails("failures", "list", "--log", str(tmp_path), code=1, reason="log_unreadable",
          says=("cannot be read",))  # fmt: skip


def test_help_names_the_commands() -> None:
    told = succeeds("failures", "--help")
    for command in ("list", "show", "explain", "export"):
        assert f"  {command} " in told
