"""Every example of README.md and docs/ is run, against a real server, and prints what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import EXAMPLES, Block, Command, blocks_of, commands_of, name_of
from tests.servers import Server, running

# What stands at the beginning of a command that is not run, and why.
EXCUSED = {
    "make ": "it sets up an environment, and then runs for long",
    "pip install ": "it takes packages from an index",
    "operator-api serve": "it runs until it is stopped; the other examples talk to one",
}
# A reader replaces it, so what has it in a command cannot be run as it stands.
PLACEHOLDER = "…"

_RUNNER = """
import contextlib, io, json, sys, traceback
namespace, answers = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    source, name = json.loads(line)
    printed, failed = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile(source, name, "exec"), namespace)
        except BaseException:
            failed = traceback.format_exc()
    print(json.dumps([printed.getvalue(), failed]), file=answers, flush=True)
"""

_ID = re.compile(r"\b(usr|cnv|msg|tok|acc|req|call|flr|rcp|out)_[0-9a-f]{32}\b")
_ALIKE = (
    (_ID, r"\1_…"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "…"),
    (re.compile(r"(127\.0\.0\.1|localhost):[0-9]+"), "127.0.0.1:8000"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?Z?"), "…"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "…"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s)\b"), r"… \2"),
    (re.compile(r"\bop_(test|live)_[0-9A-Za-z]{49}\b"), r"op_\1_…"),
)


def alike(text: str) -> str:
    """Take out what differs from run to run, and how it is laid out."""
    for pattern, replacement in _ALIKE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def assert_alike(printed: str, expected: str, where: str) -> None:
    """Compare loosely: ids, times, ports and white space differ, and ``…`` stands for anything."""
    parts = (re.escape(part.strip()) for part in alike(expected).split("…"))
    assert re.fullmatch(".*?".join(parts), alike(printed), re.DOTALL), (
        f"{where} says that this is printed:\n{expected}\n\nbut it is:\n{printed}"
    )


def assert_same_json(printed: str, expected: str, where: str) -> None:
    """Compare JSON, however it is laid out."""
    one, other = (json.dumps(json.loads(text), sort_keys=True) for text in (printed, expected))
    assert_alike(one, other, where)


class Session:
    """A shell and a Python in which a page's examples are run, one after the other."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        programs = str(Path(sys.executable).parent)
        foreign = ("OPERATOR_", "COLUMNS", "FORCE_COLOR", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._environment = {
            **kept,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "OPERATOR_API_KEY": server.token,
            "OPERATOR_BASE_URL": server.url,
            "OPERATOR_DATA": str(server.data),
            "T": server.token,
        }
        self._python = subprocess.Popen(
            [sys.executable, "-c", _RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=self._environment,
        )

    def python(self, source: str, name: str) -> str:
        """Run a block of Python, require that it ends well, and return what it printed."""
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps([source, name]) + "\n")
        self._python.stdin.flush()
        printed, failed = json.loads(self._python.stdout.readline())
        assert failed is None, f"{name}\n{printed}\n{failed}"
        return str(printed)

    def shell(self, typed: str) -> tuple[int, str]:
        """Run a command, and return its exit code and what it printed."""
        done = subprocess.run(
            ["bash", "-c", re.sub(r"(127\.0\.0\.1|localhost):8000", self._address, typed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=self._environment,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def _address(self) -> str:
        return self._server.url.removeprefix("http://")

    def close(self) -> None:
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.close()
        self._python.wait(20)
        self._python.stdout.close()


@contextmanager
def session(folder: Path) -> Iterator[Session]:
    (folder / "work").mkdir()
    with running(folder / "data") as server:
        opened = Session(server, folder / "work")
        try:
            yield opened
        finally:
            opened.close()


def excuse_of(command: Command) -> str | None:
    """Say why a command is not run."""
    if PLACEHOLDER in command.typed:
        return "it has a placeholder"
    if command.typed.startswith("curl ") and shutil.which("curl") is None:
        return "there is no curl"
    return next((EXCUSED[each] for each in EXCUSED if command.typed.startswith(each)), None)


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_the_examples_of_a_page(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    if not any(block.language in {"python", "console"} for block in blocks):
        pytest.skip("it has no examples")
    with session(tmp_path) as opened:
        printed: str | None = None  # by the block before, where what it prints is said below it
        for block in blocks:
            where = f"{name_of(page)}:{block.line}"
            match block.language:
                case "python" if block.excuse is None:
                    printed = opened.python(block.text, where)
                case "console" if block.excuse is None:
                    printed = _run_commands(opened, block, page)
                case "text" if block.follows and printed is not None:
                    assert_alike(printed, block.text, where)
                    printed = None
                case "json" if block.follows and printed is not None:
                    assert_same_json(printed, block.text, where)
                    printed = None
                case _:
                    printed = None


def _run_commands(opened: Session, block: Block, page: Path) -> str | None:
    """Run the commands of a block; return what the last one printed, if nothing is said of it."""
    last = None
    for command in commands_of(block):
        last = None
        if excuse_of(command):
            continue
        where = f"{name_of(page)}:{command.line}"
        code, printed = opened.shell(command.typed)
        if command.printed:
            assert_alike(printed, command.printed, where)
        else:
            assert code == 0, f"{where}: {command.typed}\n{printed}"
            last = printed
    return last


def test_no_example_is_in_a_language_that_is_not_run() -> None:
    """A block that looks like a program and is called something else would not be run."""
    run_or_shown = {"python", "console", "text", "json", "mermaid", ""}
    unknown = [
        f"{name_of(page)}:{block.line}: {block.language}"
        for page in EXAMPLES
        for block in blocks_of(page)
        if block.language not in run_or_shown
    ]
    assert unknown == []


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("req_" + "0" * 32, "req_" + "f" * 32, True),
        ("req_" + "0" * 32, "req_…", True),
        ("at http://127.0.0.1:4711/", "at http://127.0.0.1:8000/", True),
        ("a  b\nc", "a b c", True),
        ("first, then second", "first … second", True),
        ("first, then second", "first … third", False),
        ("took 12 ms", "took 7 ms", True),
        ("409 already_exists", "409 conversation_closed", False),
        ("one", "one two", False),
        ("one two", "one", False),
    ],
)
def test_how_output_is_compared(printed: str, expected: str, same: bool) -> None:
    try:
        assert_alike(printed, expected, "here")
    except AssertionError:
        assert not same
    else:
        assert same


def test_how_a_session_is_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```console\n$ one \\\n  two\nout\n$ three\n```\n\n```json\n{}\n```\n")
    console, answer = blocks_of(page)
    found: list[Any] = [(each.typed, each.printed) for each in commands_of(console)]
    assert found == [("one \\\n  two", "out"), ("three", "")]
    assert (console.follows, answer.follows) == (False, True)
    assert Block("python", "# not run: why\nx", 1, follows=False).excuse == "why"
