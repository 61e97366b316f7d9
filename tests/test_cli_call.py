"""``operator-api call``, as its users meet it: every operation, and what it takes and prints."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from operator_api.cli import program
from operator_api.cli.call_answers import show_table
from operator_api.cli.call_fields import Field, fields_of, read_words
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from operator_api.drill.faults import Refuse
from operator_api.drill.plans import InOrder
from tests.calls import (
    LISTS,
    Records,
    body_of,
    create,
    make_records,
    name_of,
    new_email,
)
from tests.faulty import answering, faulty
from tests.servers import Server
from tests.shell import PROGRAM, Shell, environment

TOKEN = re.compile(r"op_(?:live|test)_[0-9A-Za-z]{49}")


@pytest.fixture(scope="module")
def shell(server: Server) -> Shell:
    return Shell(server.url, server.token)


@pytest.fixture(scope="module")
def records(api: httpx2.Client) -> Records:
    return make_records(api)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs the command here, where it fails as written wrongly: for speed."""
    monkeypatch.setenv("OPERATOR_API_KEY", "op_test_" + "0" * 49)
    monkeypatch.setenv("OPERATOR_BASE_URL", "http://127.0.0.1:1")

    def run_here(*words: str) -> str:
        assert program.run(["call", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return run_here


def words_of(values: dict[str, Any]) -> list[str]:
    """Write values as fields: text as text, all else as JSON."""
    return [
        f"{name}={value}" if isinstance(value, str) else f"{name}:={json.dumps(value)}"
        for name, value in values.items()
    ]


# --- every operation ------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_every_operation_is_called(operation: Operation, shell: Shell, api: httpx2.Client) -> None:
    about = asdict(make_records(api))
    ids = {name: about[name] for name in re.findall(r"{(\w+)}", operation.path)}
    body = body_of(operation, Records(**about)) or {}
    answer = shell.says(operation.name, *words_of({**ids, **body}))
    if operation.answer is not None:
        model = operation.answer.model_validate_json(json.dumps(answer))
        assert isinstance(model, BaseModel)
    else:
        assert answer
    raw = shell.run(operation.name, *words_of({**ids, **body}), "--raw")
    assert raw.stdout.startswith("HTTP "), raw
    assert "\nx-request-id: req_" in raw.stdout


@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_every_operation_is_described(
    operation: Operation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["call", "--list", operation.name]) == 0
    page = capsys.readouterr().out
    assert f"{operation.method} {operation.path}" in page
    for field in fields_of(operation):
        assert f"\n{field} " in page
    for kind in operation.errors:
        assert kind.reason in page


def test_the_operations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["call", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in listed] == [each.name for each in OPERATIONS]
    assert program.run(["call", "--list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert [each["operation"] for each in data] == [each.name for each in OPERATIONS]
    create = next(each for each in data if each["operation"] == "users.create")
    assert [each["name"] for each in create["fields"] if each["required"]] == ["email"]


# --- what is given --------------------------------------------------------------------------------


def test_values_are_read_by_the_models_types() -> None:
    rotate, assign = BY_NAME["tokens.rotate"], BY_NAME["conversations.assign"]
    given = read_words(rotate, ["token_id=tok_1", "overlap_seconds=0"])
    assert (given.ids, given.body) == ({"token_id": "tok_1"}, {"overlap_seconds": 0})
    assert read_words(rotate, ["token_id=5", "overlap_seconds=x"]).body == {"overlap_seconds": "x"}
    cleared = read_words(assign, ["conversation_id=cnv_1", "assignee:=null"])
    assert cleared.body == {"assignee": None}
    assert read_words(assign, ["conversation_id=c", "assignee=null"]).body == {"assignee": "null"}
    made = read_words(BY_NAME["users.create"], ["email=a=b:=c", "tags=1", "tags=vip"])
    assert made.body == {"email": "a=b:=c", "tags": ["1", "vip"]}
    listed = read_words(BY_NAME["users.list"], ["limit=5", "tag=a=b", "created_after:=null"])
    assert (listed.params, listed.body) == (
        {"limit": "5", "tag": "a=b", "created_after": None},
        None,
    )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "yes", "yes"),
        ("integer", "-12", -12),
        ("integer", "1.5", "1.5"),
        ("number", "1.5", 1.5),
        ("string", "12", "12"),
        ("object", "{}", "{}"),
    ],
)
def test_types_that_models_may_have_one_day(kind: str, text: str, value: Any) -> None:
    field = Field("it", "body", True, {"anyOf": [{"type": kind}, {"type": "null"}]})
    assert field.read(text) == value
    assert type(field.read(text)) is type(value)
    items = Field("it", "body", True, {"type": "array", "items": {"type": kind}})
    assert items.read_item(text) == value


def test_a_body_from_standard_input_and_from_a_file(shell: Shell, tmp_path: Path) -> None:
    email, file = new_email(), tmp_path / "user.json"
    user = {"email": email, "name": "Ada", "tags": ["vip"]}
    made = shell.says("users.create", "-", sent=json.dumps(user))
    assert (made["email"], made["name"], made["tags"]) == (email, "Ada", ["vip"])
    file.write_text(json.dumps(user))
    other = new_email()
    made = shell.says("users.create", f"email={other}", f"@{file}", "phone=+14155550123")
    assert (made["email"], made["name"], made["phone"]) == (other, "Ada", "+14155550123")


def test_the_options_reach_the_request(shell: Shell) -> None:
    key, email = f"key-{time.time_ns()}", new_email()
    first = shell.says("users.create", f"email={email}", "--idempotency-key", key)
    raw = shell.run("users.create", f"email={email}", "--idempotency-key", key, "--raw")
    assert "\nidempotent-replayed: true" in raw.stdout.lower()
    assert first["id"] in raw.stdout
    about = (f"user_id={first['id']}", "name=Grace")
    assert shell.says("users.update", *about, "--if-match", "1")["name"] == "Grace"
    stale = shell.error(1, "users.update", *about, "--if-match", '"1"')["error"]
    assert (stale["code"], stale["reason"]) == (412, "precondition_failed")
    with answering() as fake:
        Shell(fake.url, "op_test_" + "0" * 49).says("me.get", "--header", "X-Trace: 5: 6")
        assert fake.seen[0].header("x-trace") == "5: 6"


def test_the_token_comes_from_a_file_and_never_from_an_argument(
    server: Server, tmp_path: Path
) -> None:
    file, nobody = tmp_path / "key", Shell(server.url, None)
    file.write_text(f"{server.token}\n")
    assert nobody.says("me.get", "--api-key-file", str(file))["environment"] == "test"
    assert nobody.says("service.live") == {"status": "ok"}, "no token, where none is needed"
    assert "OPERATOR_API_KEY" in nobody.fails(2, "me.get")
    assert "cannot be read" in nobody.fails(2, "me.get", "--api-key-file", str(tmp_path / "none"))
    for words in (("--api-key", server.token), (f"--api-key={server.token}",)):
        message = nobody.fails(2, "me.get", *words)
        assert "`ps`" in message
        assert not TOKEN.search(message)
    # A token in the place of a field is not told back either.
    assert not TOKEN.search(Shell(server.url, "x").fails(2, "me.get", server.token))


def test_the_token_is_asked_for_on_a_terminal(server: Server) -> None:
    parent, child = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "me.get", "--json"],
            env=environment(server.url, None, TERM="dumb"),
            stdin=child,
            stdout=subprocess.PIPE,
            stderr=child,
            start_new_session=True,
        )
        shown = ""
        while not shown.endswith(": "):  # what is typed before is thrown away
            shown += os.read(parent, 1 << 10).decode()
        os.write(parent, f"{server.token}\n".encode())
        answer, _ = process.communicate(timeout=30)
        shown += os.read(parent, 1 << 10).decode()
    finally:
        os.close(child)
        os.close(parent)
    assert json.loads(answer)["environment"] == "test"
    assert "API key" in shown
    assert server.token not in shown, "it is not shown while it is typed"


def test_the_outbox_of_a_program_is_left_alone(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("me.get", OPERATOR_OUTBOX=str(tmp_path / "outbox"))
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


# --- what is printed ------------------------------------------------------------------------------


def test_a_list_is_a_table_and_a_record_is_json(shell: Shell, api: httpx2.Client) -> None:
    tag = f"tag{time.time_ns()}"
    user = create(api, "/v1/users", email=new_email(), name="Zoë\u202e", tags=[tag, "vip"])
    header, row = shell.run("users.list", f"tag={tag}").stdout.splitlines()
    assert header.split()[:3] == ["ID", "NAME", "EMAIL"]
    assert user["id"] in row
    assert f"{tag}, vip" in row
    printed = shell.run("users.get", f"user_id={user['id']}").stdout
    assert "Zoë\\u202e" in printed, "text is shown as it is, but steers no terminal"
    assert json.loads(printed) == user
    nothing = shell.run("users.list", "tag=nobody has this")
    assert (nothing.stdout, nothing.stderr) == ("", "There are none.\n")
    page = shell.run("service.explain", "reason=required").stdout
    assert page.startswith("# 422 required\n")


def test_a_page_says_how_to_go_on(shell: Shell, api: httpx2.Client) -> None:
    tag = f"tag{time.time_ns()}"
    made = [create(api, "/v1/users", email=new_email(), tags=[tag])["id"] for _ in range(5)]
    done = shell.run("users.list", f"tag={tag}", "limit=2")
    assert len(done.stdout.splitlines()) == 3
    cursor = re.search(r"cursor=(\S+)", done.stderr)
    assert cursor is not None
    following = shell.says("users.list", f"tag={tag}", "limit=2", cursor[0])
    assert [each["id"] for each in following["data"]] == made[::-1][2:4]
    done = shell.run("users.list", f"tag={tag}", "limit=2", "--all", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == made[::-1]
    assert len(shell.run("users.list", f"tag={tag}", "--all").stdout.splitlines()) == 6


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_every_list_is_walked(operation: Operation, shell: Shell, records: Records) -> None:
    ids = [f"{name}={getattr(records, name)}" for name in operation.ids]
    done = shell.run(operation.name, *ids, "--all", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    assert done.stdout


def all_that_is_shown(terminal: int) -> str:
    shown = b""
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as file:  # ends with EIO
        while part := file.read(4096):
            shown += part
    return shown.decode()


def test_progress_is_for_terminals(shell: Shell, records: Records) -> None:
    parent, child = pty.openpty()
    with ThreadPoolExecutor(1) as reader:
        seen = reader.submit(all_that_is_shown, parent)  # as it comes: a terminal holds little
        try:
            done = subprocess.run(
                [*PROGRAM, "users.list", "--all", "--json"],
                env=environment(shell.url, shell.token, TERM="xterm"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=child,
                timeout=60,
                check=True,
            )
        finally:
            os.close(child)
        shown = seen.result()
    count = len(done.stdout.splitlines())
    assert "users.list" in shown
    assert f"{count} items" in shown


@pytest.mark.parametrize(("columns", "fit"), [(80, 3), (400, 7)])
def test_a_narrow_terminal_is_told_what_it_does_not_show(
    columns: int, fit: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    user = {
        "id": "usr_" + "0" * 32,
        "name": "Ada Lovelace",
        "email": "ada.lovelace@example.com",
        "phone": "+14155550123",
        "tags": ["vip", "beta"],
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:00.000000Z",
    }
    show_table(BY_NAME["users.list"], [user])
    printed = capsys.readouterr()
    header = re.sub(r"\x1b\[[0-9;]*m", "", printed.out.splitlines()[0])
    assert header.lower().split() == list(user)[:fit]
    left_out = ", ".join(list(user)[fit:])
    assert printed.err == (f"Too narrow for {left_out}: see --json.\n" if left_out else "")


def test_attempts_are_told(server: Server) -> None:
    plan = InOrder((Refuse("overloaded"), None))
    with faulty(plan, server) as proxy:
        done = Shell(proxy.url, server.token).run("me.get", "--verbose")
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert "503 overloaded" in first
    assert "attempt 1" in first
    assert "next in" in first
    assert "200 req_" in second
    assert "attempt 2" in second


# --- written wrongly ------------------------------------------------------------------------------

_USER = "user_id=usr_" + "0" * 32


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), ("Say which operation", "call --list")),
        (("user.create",), ("Did you mean users.create?", "call --list")),
        (("users.craete",), ("Did you mean users.create?", "users.list, users.create")),
        (("nonsense",), ("There is no operation 'nonsense'.", "call --list")),
        (("--list", "users.craete"), ("Did you mean users.create?",)),
        (("users.create", "emial=x"), ("Did you mean email?", "email (body, text, required)")),
        (("users.list", "limt=5"), ("Did you mean limit?", "limit (query, integer)")),
        (("users.get",), ("users.get needs user_id", "call users.get user_id=…")),
        (("users.get", "usr_1"), ("Did you mean user_id=usr_1?",)),
        (("users.get", _USER, "-"), ("takes no body",)),
        (("users.get", _USER, _USER), ("twice",)),
        (("me.get", "x=1"), ("has no field 'x'", "takes no fields")),
        (("users.create", "tags:=[vip]"), ("The value of tags is not JSON", "column 2")),
        (("users.create", "@/nowhere/at/all"), ("cannot be read",)),
        (("users.create", "-", "-"), ("One body is enough",)),
        (("users.create", "=x"), ("has no field ''",)),
        (("users.get", _USER, "--all"), ("has no pages",)),
        (("users.list", "--all", "--raw"), ("Leave one of them out",)),
        (("users.list", "--idempotency-key", "k"), ("changes nothing",)),
        (("users.list", "--timeout", "0"), ("timeout must be a number of seconds above 0",)),
        (("users.list", "--timeout", "soon"), ("should be a valid number",)),
        (("users.list", "--max-retries", "-1"), ("max_retries must be 0 or more",)),
        (("users.list", "--base-url", "ftp://x"), ("http:// or https://",)),
        (("users.list", "--header", "x"), ("Name: value",)),
        (("users.list", "--header", "Authorization: x"), ("the client's own to set",)),
        (("users.list", "--tiemout", "5"), ("Did you mean --timeout?",)),
        (("users.list", "--if-match", "x"), ("takes no If-Match",)),
        (
            ("users.create", "email=a@example.com", "--idempotency-key", "a b"),
            ("Idempotency-Key must be",),
        ),
    ],
)
def test_usage(words: tuple[str, ...], says: tuple[str, ...], told: Any) -> None:
    printed = told(*words)
    for part in says:
        assert part in printed
    error = json.loads(told(*words, "--json"))["error"]
    assert error["message"]
    assert error["outcome"] == "not_executed"


def test_what_the_server_would_refuse_is_not_sent(shell: Shell, told: Any) -> None:
    printed = told("users.create", "email=ada", "tags:=5")
    for part in ("422 validation_failed", "#/email", "#/tags", "What to do", "nothing was sent"):
        assert part in printed
    document = json.loads(told("users.list", "limit=0", "--json"))
    assert (document["error"]["code"], document["error"]["reason"]) == (400, "invalid_parameter")
    assert document["call"]["attempts"] == 0
    # The same from the server, as it was sent.
    words = ("users.create", "emial=a@example.com")
    document = shell.error(1, *words, "--no-validate")
    assert document["error"]["errors"][0]["did_you_mean"] == "email"
    printed = shell.fails(1, *words, "--no-validate")
    assert "#/emial: emial is not a known field. Did you mean email?" in printed
    assert "To mend it, rename emial to email." in printed


# --- what it costs --------------------------------------------------------------------------------


def test_help_loads_neither_the_client_nor_the_models() -> None:
    script = """
import sys
from operator_api.cli.program import run
assert run(["call", "--help"]) == 0
heavy = ("operator_api.client", "operator_api.server", "httpx2", "operator_api.contract.models")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
