"""The command line, as its users meet it: real processes, what they print, and how they end."""

import ctypes
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from operator_api import __version__
from operator_api.cli import program
from operator_api.cli.options import _LONGEST_OVERLAP, DEFAULT_ACCOUNT, parse_expiry, parse_overlap
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.models import MAX_OVERLAP_SECONDS
from operator_api.contract.scopes import PRESETS, SCOPES
from operator_api.server.accounts import DEFAULT
from operator_api.server.settings import Settings
from tests.errors import MEMBERS
from tests.servers import Server, eventually, run_cli, running
from tests.stores import FILE, query, write_lock

PROGRAM = [sys.executable, "-m", "operator_api.cli"]
TOKEN = re.compile(r"op_(?:live|test)_[0-9A-Za-z]{49}")
# What a revocation by another process takes to hold, at the longest.
HOLDS_SECONDS = 2
ADMIN = ("--preset", "admin")

Done = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    ours = ("OPERATOR_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **variables}


def run(*arguments: str, cwd: Path | None = None, **variables: str) -> Done:
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "colours, where there is no terminal"
    return done


def succeeds(*arguments: str, cwd: Path | None = None, **variables: str) -> str:
    done = run(*arguments, cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complains(
    *arguments: str, code: int, says: tuple[str, ...], cwd: Path | None = None, **variables: str
) -> str:
    """Require that the command fails with this exit code, in these words; return all of them."""
    done = run(*arguments, cwd=cwd, **variables)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("Error: ")
    for part in says:
        assert part in done.stderr
    return done.stderr


def fails(
    *arguments: str,
    code: int,
    reason: str,
    says: tuple[str, ...],
    cwd: Path | None = None,
    **variables: str,
) -> dict[str, Any]:
    """Require that the command complains so, and in JSON as well; return the error in it."""
    with ThreadPoolExecutor(2) as both:
        words = both.submit(complains, *arguments, code=code, says=says, cwd=cwd, **variables)
        machine = both.submit(run, *arguments, "--json", cwd=cwd, **variables)
    done = machine.result()
    assert (done.returncode, done.stdout) == (code, ""), done
    error = error_of(done.stderr, reason)
    told = " ".join(words.result().split())
    assert told == " ".join(f"Error: {error['message']} {error['hint']}".split())
    return error


def error_of(printed: str, reason: str) -> dict[str, Any]:
    """Require one JSON document that holds an error of the contract's form; return the error."""
    document = json.loads(printed)
    error: dict[str, Any] = document["error"]
    assert list(document) == ["error"]
    assert list(error) == MEMBERS
    assert error["reason"] == reason
    assert type(error["code"]) is int
    assert error["hint"], "what to do is always said"
    if reason in CATALOGUE:
        kind = CATALOGUE[reason]
        assert (error["code"], error["type"]) == (kind.status, kind.type)
    return error


Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Return what runs a command in this process, where it fails as written wrongly: for speed."""

    def run_here(*arguments: str) -> str:
        assert program.run(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return run_here


def accepted(server: Server, token: str) -> bool:
    with server.client(token) as client:
        return client.get("/v1/me").status_code == 200


def refused(server: Server, token: str) -> Callable[[], bool]:
    return lambda: not accepted(server, token)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a store that no server runs on."""
    data = tmp_path_factory.mktemp("store")
    run_cli("accounts", "create", "acme", "--data", str(data), "--json")
    return data


# --- what needs no server -------------------------------------------------------------------------


def test_version() -> None:
    assert succeeds("version") == f"operator-api {__version__}\n"
    assert run_cli("version", "--json") == {"version": __version__}


def test_no_command_shows_the_commands() -> None:
    told = succeeds()
    for command in ("serve", "tokens", "accounts", "openapi", "explain", "version"):
        assert f"  {command} " in told


def test_a_reason_is_explained_as_a_page() -> None:
    page = succeeds("explain", "conversation_closed")
    kind = CATALOGUE["conversation_closed"]
    assert page.startswith("# 409 conversation_closed\n")
    assert kind.hint in page
    assert kind.causes[0] in page
    entry = run_cli("explain", "conversation_closed", "--json")
    assert (entry["reason"], entry["status"], entry["fix"]) == (kind.reason, 409, kind.fix)


def test_a_status_is_explained_by_its_reasons() -> None:
    expected = [kind.reason for kind in CATALOGUE.values() if kind.status == 401]
    listed = succeeds("explain", "401").splitlines()
    assert [line.split()[0] for line in listed[1:]] == expected
    entries = run_cli("explain", "401", "--json")["data"]
    assert [entry["reason"] for entry in entries] == expected
    assert len(run_cli("explain", "--json")["data"]) == len(CATALOGUE)


def test_openapi_needs_no_store(tmp_path: Path) -> None:
    printed = succeeds("openapi", cwd=tmp_path, OPERATOR_PUBLIC_URL="https://api.example.com/")
    document = json.loads(printed)
    assert "https://api.example.com" in printed
    assert document == json.loads(
        succeeds("openapi", "--json", cwd=tmp_path, OPERATOR_PUBLIC_URL="https://api.example.com")
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["version"], ["explain", "422"], ["explain", "overloaded"]])
def test_the_server_is_not_imported_for_nothing(command: list[str]) -> None:
    script = f"""
import sys
from operator_api.cli.program import run
assert run({command}) == 0
print([name for name in sys.modules if name.startswith(("operator_api.server", "sqlalchemy"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_without_the_servers_packages(tmp_path: Path) -> None:
    packages = ("alembic", "cryptography", "orjson", "pydantic_settings", "uvicorn", "uvloop")
    for package in packages:
        missing = f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
        (tmp_path / f"{package}.py").write_text(missing)
    absent = str(tmp_path)
    assert succeeds("version", PYTHONPATH=absent)
    assert succeeds("explain", "500", PYTHONPATH=absent)
    assert "--rate-limit" in succeeds("serve", "--help", PYTHONPATH=absent)
    says = ("is not installed", "pip install 'operator-api[server]'")
    fails("serve", code=1, reason="server_not_installed", says=says, PYTHONPATH=absent)
    for command in (["tokens", "list"], ["accounts", "list"], ["openapi"]):
        complains(*command, code=1, says=says, PYTHONPATH=absent)


def test_the_help_of_serve_is_true() -> None:
    told = " ".join(succeeds("serve", "--help").split())
    for name in ("host", "port", "data", "rate_limit"):
        default = Settings.model_fields[name].default
        shown = "600/60s" if name == "rate_limit" else str(default)
        assert f"[variable: OPERATOR_{name.upper()}; default: {shown}]" in told
    assert "[variable: OPERATOR_DATABASE; default: operator.sqlite3 in that folder]" in told
    assert Settings().database_path.name == "operator.sqlite3"
    assert str(Settings.model_fields["rate_limit"].default.limit) == "600"


def test_what_the_command_line_repeats_is_still_so() -> None:
    """It must not import the models or the server, to start quickly, so it repeats these two."""
    assert _LONGEST_OVERLAP == MAX_OVERLAP_SECONDS
    assert DEFAULT_ACCOUNT == DEFAULT


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("12h", 43_200), ("90d", 7_776_000), ("5s", 5)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_expiry(text) == seconds
    assert parse_overlap("0") == parse_overlap("0h") == 0


# --- serve ----------------------------------------------------------------------------------------


def test_the_first_start_shows_a_token_and_a_line_that_works(data: Path) -> None:
    with running(data) as server:
        check_announcement(server)


def check_announcement(server: Server) -> None:
    told = "".join(server.errors)
    curl = told[told.index("  curl ") :].partition("\n\n")[0]
    assert set(TOKEN.findall(told)) == {server.token}
    assert server.token.startswith("op_test_")
    assert f"Ready at {server.url}\n" in told
    assert f"tokens create --name NAME --preset admin --data {server.data}" in told
    with server.client() as client:
        assert client.get("/v1/me").json()["scopes"] == sorted(SCOPES)
    if shutil.which("curl") is None:
        pytest.skip("the line is for curl, which is not installed")
    for status, body in ((201, curl), (409, curl), (422, curl.replace("ada@example.com", ""))):
        done = subprocess.run(["sh", "-c", body], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"HTTP/1.1 {status} "), done.stdout


def test_the_token_is_shown_once_and_the_announcement_is_json_if_wanted(data: Path) -> None:
    first, code = announced(data, "--json")
    assert code == 0, "an orderly stop"
    ready = json.loads(first.stdout)
    assert first.stderr == ""
    assert ready["event"] == "ready"
    assert TOKEN.fullmatch(ready["token"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", ready["url"])
    assert (ready["account"], ready["environment"]) == ("default", "test")
    second, _ = announced(data, "--json")
    assert json.loads(second.stdout)["token"] is None
    third, _ = announced(data)
    assert third.stdout == ""
    assert not TOKEN.search(third.stderr)
    assert f"operator-api tokens create --name NAME --preset admin --data {data}" in third.stderr
    assert "Ready at http://127.0.0.1:" in third.stderr


def announced(data: Path, *options: str) -> tuple[Done, int]:
    """Start a server, stop it when it is ready, and return what it printed."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", "--data", str(data), *options],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    announcement = process.stdout if "--json" in options else process.stderr
    assert announcement is not None
    lines = []
    for line in announcement:
        lines.append(line)
        if "eady" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=30)
    told = "".join(lines)
    stdout, stderr = (told, rest[1]) if "--json" in options else (rest[0], told)
    return subprocess.CompletedProcess([], process.returncode, stdout, stderr), process.returncode


def test_settings_come_from_variables_too(data: Path) -> None:
    with running(data, OPERATOR_RATE_LIMIT="7/30s") as limited, limited.client() as client:
        assert client.get("/v1/me").headers["ratelimit-policy"] == '"default";q=7;w=30'
        fails(
            *("serve", "--port", "0", "--data", str(data)),
            code=1,
            reason="already_served",
            says=(f"process {limited.process.pid}", str(data), "stop it first"),
        )


def test_a_port_that_is_taken(server: Server, data: Path) -> None:
    port = str(server.address[1])
    error = fails(
        *("serve", "--port", port, "--data", str(data)),
        code=1,
        reason="port_in_use",
        says=(f"127.0.0.1 port {port}", f"operator-api serve --port 0 --data {data}"),
    )
    assert error["metadata"] == {"host": "127.0.0.1", "port": int(port)}
    assert not (data / FILE).exists(), "a server that cannot start makes no store"


# --- tokens ---------------------------------------------------------------------------------------


def test_a_new_token_works_at_once(server: Server) -> None:
    created = server.cli("tokens", "create", "--name", "ci", "--preset", "read-only")
    assert (created["environment"], created["name"]) == ("test", "ci")
    assert set(created["scopes"]) == set(PRESETS["read-only"])
    assert created["expires_at"] is None
    assert accepted(server, created["token"])


def test_a_token_is_printed_alone_to_be_captured(server: Server) -> None:
    done = run(
        *("tokens", "create", "--name", "Ada's", "--scopes", "users:read, tags:read"),
        *("--environment", "live", "--expires-in", "90d", "--data", str(server.data)),
    )
    token = done.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert token not in done.stderr
    assert "expires" in done.stderr
    assert "never shown again" in done.stderr
    with server.client(token) as client:
        me = client.get("/v1/me").json()
    assert (me["environment"], me["scopes"]) == ("live", ["tags:read", "users:read"])
    assert me["expires_at"] is not None


def test_a_token_expires_when_it_was_told_to(server: Server) -> None:
    created = server.cli("tokens", "create", "--name", "brief", *ADMIN, "--expires-in", "1s")
    eventually(refused(server, created["token"]), seconds=1 + HOLDS_SECONDS)
    with server.client(created["token"]) as client:
        assert client.get("/v1/me").json()["error"]["reason"] == "expired_token"


def test_a_revocation_holds_within_two_seconds(server: Server) -> None:
    created = server.cli("tokens", "create", "--name", "leaked", *ADMIN, "--environment", "live")
    assert accepted(server, created["token"])
    told = run("tokens", "revoke", created["id"], "--data", str(server.data)).stderr
    eventually(refused(server, created["token"]), seconds=HOLDS_SECONDS)
    assert f"Revoked {created['id']}" in told
    again = server.cli("tokens", "revoke", created["id"])
    assert again == {"id": created["id"], "deleted": True}
    fails(
        *("tokens", "rotate", created["id"], "--data", str(server.data)),
        code=1,
        reason="token_inactive",
        says=("revoked", "Create a new token"),
    )


def test_a_token_is_rotated_with_and_without_an_overlap(server: Server) -> None:
    created = server.cli("tokens", "create", "--name", "turns", "--preset", "conversations")
    second = server.cli("tokens", "rotate", created["id"])
    assert second["replaces"] == created["id"]
    assert second["scopes"] == created["scopes"]
    assert accepted(server, created["token"])
    done = run("tokens", "rotate", second["id"], "--overlap", "0", "--data", str(server.data))
    third = done.stdout.strip()
    assert f"{second['id']} is valid until" in done.stderr
    assert accepted(server, third)
    eventually(refused(server, second["token"]), seconds=HOLDS_SECONDS)


def test_a_guard_keeps_other_tokens_from_being_revoked(server: Server) -> None:
    token = server.cli("tokens", "create", "--name", "mine", *ADMIN)
    for guard in (("--environment", "live"), ("--account", "acme")):
        fails(
            *("tokens", "revoke", token["id"], *guard, "--data", str(server.data)),
            code=1,
            reason="resource_not_found",
            says=(f"no token {token['id']} in", guard[1], "operator-api tokens list"),
        )
    assert accepted(server, token["token"])


def test_all_pages_of_tokens_are_listed(server: Server) -> None:
    server.cli("accounts", "create", "many tokens")
    of_many = ("--account", "many tokens")
    first = server.cli("tokens", "create", "--name", "first", *ADMIN, *of_many)
    with server.client(first["token"]) as client:
        for number in range(120):
            body = {"name": f"token {number}", "scopes": ["users:read", "tags:read"]}
            assert client.post("/v1/tokens", json=body).status_code == 201
    listed = server.cli("tokens", "list", *of_many)["data"]
    assert len({token["id"] for token in listed}) == 121
    assert listed[-1]["name"] == "first"
    assert all("token" not in token for token in listed)
    done = run("tokens", "list", *of_many, "--data", str(server.data))
    assert "121 tokens" in done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["TOKEN", "NAME", "SCOPES", "STATUS"]
    assert len(rows) == 121, "a row of a table that is piped is one line"
    assert all(row.split()[0].startswith("tok_") for row in rows)
    assert "token 119" in rows[0]
    assert "tags:read users:read" in rows[0]
    assert "admin" in rows[-1]
    empty = run("tokens", "list", *of_many, "--environment", "live", "--data", str(server.data))
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no tokens" in empty.stderr


# --- accounts -------------------------------------------------------------------------------------


def test_accounts(server: Server) -> None:
    created = server.cli("accounts", "create", "Ada & co")
    assert created["id"].startswith("acc_")
    assert created in server.cli("accounts", "list")["data"]
    told = run("accounts", "create", "b", "--data", str(server.data)).stderr
    line = next(line for line in told.splitlines() if line.startswith("  operator-api "))
    token = succeeds(*line.split()[1:]).strip()
    assert accepted(server, token), "the command that it proposes works"
    listed = succeeds("accounts", "list", "--data", str(server.data)).splitlines()
    assert listed[0].split() == ["ACCOUNT", "NAME", "CREATED"]
    assert any("Ada & co" in row for row in listed)
    fails(
        *("accounts", "create", "Ada & co", "--data", str(server.data)),
        code=1,
        reason="already_exists",
        says=("There is an account 'Ada & co' already", "accounts list --data"),
    )


def test_the_first_account_of_a_store_is_the_default_one(tmp_path: Path) -> None:
    for name, expected in (("acme", ["default", "acme"]), ("default", ["default"])):
        data = str(tmp_path / name)
        done = run("accounts", "create", name, "--data", data)
        assert f"There was no store at {data}" in done.stderr
        listed = run_cli("accounts", "list", "--data", data, "--json")["data"]
        assert [account["name"] for account in listed] == expected


# --- stores ---------------------------------------------------------------------------------------


def test_two_tokens_at_once_on_a_new_folder(data: Path) -> None:
    def create(name: str) -> Any:
        return run_cli("tokens", "create", "--name", name, *ADMIN, "--data", str(data), "--json")

    with ThreadPoolExecutor(2) as two:
        created = list(two.map(create, ["one", "two"]))
    with running(data) as server:
        assert server.token == "", "the store was there before the server"
        assert all(accepted(server, token["token"]) for token in created)
        assert [each["name"] for each in server.cli("accounts", "list")["data"]] == ["default"]


def test_a_killed_command_leaves_a_usable_store(data: Path) -> None:
    for number in range(6):
        command = [*PROGRAM, "accounts", "create", f"n{number}", "--data", str(data), "--json"]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)
        time.sleep(0.2 + 0.1 * number)
        process.kill()
        process.communicate()
    run_cli("accounts", "create", "last", "--data", str(data), "--json")
    accounts = run_cli("accounts", "list", "--data", str(data), "--json")["data"]
    assert {"default", "last"} <= {account["name"] for account in accounts}
    assert query(data, "PRAGMA integrity_check") == [("ok",)]
    assert query(data, "SELECT count(*) FROM tenants") == [(2 * len(accounts),)]
    assert run_cli("tokens", "create", "--name", "x", *ADMIN, "--data", str(data), "--json")


@pytest.mark.parametrize(
    "command",
    [
        ["tokens", "list"],
        ["tokens", "rotate", "tok_0"],
        ["tokens", "revoke", "tok_0"],
        ["accounts", "list"],
        ["tokens", "create", "--name", "x", *ADMIN, "--account", "acme"],
    ],
)
def test_a_wrong_folder_is_told_and_not_made_a_store(command: list[str], tmp_path: Path) -> None:
    says = (f"the file {tmp_path}/nowhere/{FILE} does not exist", "--data", "OPERATOR_DATA")
    if command == ["tokens", "list"]:
        fails(*command, code=1, reason="store_missing", says=("operator-data",), cwd=tmp_path)
    complains(*command, "--data", "nowhere", code=1, says=says, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("to whom it may concern" * 100)
    for command in (["tokens", "list"], ["serve", "--port", "0"]):
        fails(
            *(*command, "--data", str(tmp_path)),
            code=1,
            reason="store_unusable",
            says=(f"{tmp_path}/{FILE} is no SQLite database", "backup"),
        )


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (["tokens", "create", "--name", "x", *ADMIN], ["serve", "--port", "0"]):
        says = (f"{tmp_path}/file cannot be used: File exists", "belong to the user")
        fails(
            *command, "--data", str(tmp_path / "file"), code=1, reason="store_unusable", says=says
        )


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        (0o500, ["tokens", "create", "--name", "x", *ADMIN]),
        (0o500, ["serve", "--port", "0"]),
        (0o000, ["tokens", "list"]),
    ],
)
def test_a_folder_of_another_user(mode: int, command: list[str], store: Path, data: Path) -> None:
    shutil.copytree(store, data)
    for file in data.iterdir():
        file.chmod(0o400)
    data.chmod(mode)
    words = [*PROGRAM, *command, "--data", str(data)]
    done = subprocess.run(
        words,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_be_nobody_special,
    )
    data.chmod(0o700)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert re.search(r"cannot be (used|opened)", done.stderr), done.stderr
    assert f"ls -la {data}" in done.stderr or f"ls -la {data.parent}" in done.stderr


def _be_nobody_special() -> None:
    """Obey the modes of files, as root does not: PR_CAPBSET_DROP of CAP_DAC_*."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def test_a_store_that_another_process_keeps_locked(store: Path) -> None:
    with write_lock(store):
        error = fails(
            *("tokens", "create", "--name", "x", *ADMIN, "--data", str(store)),
            code=1,
            reason="store_unavailable",
            says=("is locked", "Try again", f"fuser -v {store}/{FILE}"),
            OPERATOR_BUSY_SECONDS="0.3",
        )
        assert error["retry"]["retryable"] is True
        assert error["outcome"] == "not_executed"
        assert run_cli("tokens", "list", "--data", str(store), "--json") == {"data": []}


def test_keys_that_do_not_open_the_store(store: Path, data: Path) -> None:
    shutil.copytree(store, data)
    listing = ("tokens", "list", "--data", str(data))
    says = ("none of the secret keys opens", "OPERATOR_SECRET_KEYS", "was made with")
    other = "A" * 43 + "="
    fails(*listing, code=1, reason="key_unusable", says=says, OPERATOR_SECRET_KEYS=other)
    for content in (b"abc", b"\xff\xfe"):
        (data / "secret.key").write_bytes(content)
        complains(*listing, code=1, says=("not base64", f"{data}/secret.key"))
    (data / "secret.key").unlink()
    complains(*listing, code=1, says=(f"{data}/secret.key is missing", "was made with"))
    assert not (data / "secret.key").exists()


def test_ctrl_c_ends_a_command_quietly(store: Path) -> None:
    with write_lock(store):
        process = subprocess.Popen(
            [*PROGRAM, "tokens", "create", "--name", "x", *ADMIN, "--data", str(store)],
            env=environment(OPERATOR_BUSY_SECONDS="30"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: FILE in _open_files(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 130


def _open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(link.readlink().name)
        except FileNotFoundError:
            continue
    return found


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, "explain"],
        env=environment(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert "rror" not in done.stderr


# --- commands that are written wrongly ------------------------------------------------------------

MAKE = ("tokens", "create", "--name", "x")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("tokns",), ("No such command 'tokns'", "Did you mean 'tokens'?", "operator-api --help")),
        (("tokens", "creat"), ("Did you mean 'create'?", "operator-api tokens --help")),
        (("tokens",), ("Missing command", "operator-api tokens --help")),
        (
            ("tokens", "list", "--enviroment", "live"),
            ("No such option: --enviroment", "Did you mean --environment?", "tokens list --help"),
        ),
        (("tokens", "list", "tok_1"), ("unexpected extra argument", "tokens list --help")),
        (("tokens", "create", *ADMIN), ("Missing option '--name'",)),
        ((*MAKE, "--preset"), ("'--preset' requires an argument",)),
        ((*MAKE, "--preset", "root"), ("'read-only', 'conversations', 'admin'",)),
        ((*MAKE, *ADMIN, "--environment", "prod"), ("'live', 'test'",)),
        (MAKE, ("Say what the token may do", "--preset read-only: users:read", "--scopes")),
        ((*MAKE, *ADMIN, "--scopes", "users:read"), ("Choose one way", "--preset", "--scopes")),
        ((*MAKE, "--scopes", "user:read"), ("no scope 'user:read'", "Did you mean users:read?")),
        ((*MAKE, "--scopes", "users:read,"), ("no scope ''", "any of users:read")),
        ((*MAKE, *ADMIN, "--expires-in", "3 weeks"), ("'--expires-in'", "such as 30m or 90d")),
        ((*MAKE, *ADMIN, "--expires-in", "0"), ("from 1s to 36500d",)),
        (("tokens", "rotate", "tok_1", "--overlap", "8d"), ("from 0 to 7d",)),
        (("tokens", "revoke"), ("Missing argument 'ID'",)),
        (("tokens", "revoke", "7"), ("not the id of a token", "Ids begin with tok_")),
        (("explain", "rate_limit"), ("Did you mean rate_limited?", "operator-api explain")),
        (("explain", "418"), ("No error has the status 418", "400, 401")),
    ],
)
def test_usage(command: tuple[str, ...], says: tuple[str, ...], told: Told) -> None:
    words = told(*command)
    assert words.startswith("Error: ")
    assert all(part in words for part in says), words
    error_of(told(*command, "--json"), "usage")


def test_wrong_usage_ends_the_process_with_2(tmp_path: Path) -> None:
    says = ("No such command 'lst'. Did you mean 'list'?", "operator-api tokens --help")
    fails("tokens", "lst", code=2, reason="usage", says=says, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_place_of_an_id_is_not_told_back() -> None:
    secret = "op_live_" + "a" * 49
    says = ("a token's secret, not its id", "history", "tokens list")
    error = fails("tokens", "revoke", secret, code=2, reason="usage", says=says)
    assert secret not in str(error)


@pytest.mark.parametrize(
    ("options", "variables", "says"),
    [
        (("--port", "http"), {}, ("The option --port is wrong", "integer")),
        (("--port", "65536"), {}, ("The option --port is wrong", "65535")),
        (("--rate-limit", "10"), {}, ("The option --rate-limit", "such as 600/60s")),
        (("--database", "mysql://x"), {}, ("The option --database", "sqlite:///PATH")),
        (("--database", "sqlite:///:memory:"), {}, ("The option --database", "sqlite:///PATH")),
        ((), {"OPERATOR_RATE_LIMIT": "many"}, ("The variable OPERATOR_RATE_LIMIT", "600/60s")),
        ((), {"OPERATOR_PROT": "1"}, ("OPERATOR_PROT is not", "Did you mean OPERATOR_PORT?")),
        ((), {"OPERATOR_SECRET_KEYS": "hunter2!"}, ("OPERATOR_SECRET_KEYS", "not base64")),
        ((), {"OPERATOR_SECRET_KEYS": "aGk="}, ("OPERATOR_SECRET_KEYS", "32 bytes")),
    ],
)
def test_settings_that_are_wrong(
    options: tuple[str, ...],
    variables: dict[str, str],
    says: tuple[str, ...],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = told("serve", *options)
    assert all(part in words for part in (*says, "operator-api serve --help")), words
    printed = told("serve", *options, "--json")
    error_of(printed, "invalid_setting")
    assert "hunter2" not in words + printed


def test_a_setting_that_is_wrong_ends_the_process_with_2(tmp_path: Path) -> None:
    says = ("The variable OPERATOR_PORT is wrong",)
    for command in (["serve"], ["tokens", "list"]):
        reason = "invalid_setting"
        fails(*command, code=2, reason=reason, says=says, cwd=tmp_path, OPERATOR_PORT="x")


def test_addresses_that_cannot_be_listened_on(tmp_path: Path) -> None:
    # 203.0.113.0/24 is nobody's (RFC 5737).
    fails(
        *("serve", "--host", "203.0.113.7", "--port", "0", "--data", str(tmp_path)),
        code=1,
        reason="cannot_listen",
        says=("203.0.113.7 port 0", "--host an address of this machine"),
    )


def test_values_that_the_api_would_refuse(store: Path) -> None:
    on_store = ("--data", str(store))
    says = ("Validation error: Name must have at least 1 visible character.",)
    error = fails(*MAKE[:3], " ", *ADMIN, *on_store, code=2, reason="validation_failed", says=says)
    assert error["errors"][0]["reason"] == "too_short"
    complains("accounts", "create", "", *on_store, code=2, says=says)


def test_an_account_that_is_not_there(store: Path) -> None:
    of_none = ("--account", "acm", "--data", str(store))
    says = ("no account 'acm'. Did you mean acme?", f"accounts list --data {store}")
    fails("tokens", "list", *of_none, code=1, reason="resource_not_found", says=says)
    complains(*MAKE, *ADMIN, *of_none, code=1, says=says)


# --- on a terminal --------------------------------------------------------------------------------


def on_terminal(*arguments: str, **variables: str) -> str:
    """Return what the command prints on a terminal of 80 columns."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        env=environment(COLUMNS="80", **variables),
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:  # how a terminal ends
            break
    process.wait(30)
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_and_may_be_refused() -> None:
    assert "\x1b[1;31mError: \x1b[0m" in on_terminal("explain", "nothing", TERM="xterm")
    assert "\x1b[1;31m" not in on_terminal("explain", "nothing", TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in on_terminal("explain", "nothing", TERM="dumb")


def test_a_narrow_terminal_breaks_no_word_of_a_table(store: Path) -> None:
    created = run_cli(
        *("tokens", "create", "--name", "a name of many words, which is long"),
        *("--scopes", "conversations:write,users:read", "--expires-in", "90d", "--account", "acme"),
        *("--data", str(store), "--json"),
    )
    shown = on_terminal("tokens", "list", "--account", "acme", "--data", str(store), TERM="dumb")
    assert max(map(len, shown.splitlines())) <= 80
    for word in (created["id"], "conversations:write", "users:read", created["expires_at"][:10]):
        assert word in shown
    assert created["hint"] in shown
