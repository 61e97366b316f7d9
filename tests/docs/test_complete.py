"""The documentation names all there is, nothing that is not, and leads nowhere in vain."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

import operator_api
from operator_api.cli.program import app
from operator_api.client import AsyncOperatorAI, OperatorAI, OperatorError
from operator_api.client.call import ChangeOptions
from operator_api.client.configuration import (
    DEFAULT_BASE_URL,
    ClientOptions,
    Configuration,
    read_base_url,
)
from tests.docs.pages import EXAMPLES, FOLDER, LINKED, README, ROOT, blocks_of, name_of

CLIENT = FOLDER / "client"
SOURCE = ROOT / "src" / "operator_api"

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_VARIABLE = re.compile(r"\bOPERATOR_[A-Z_]+\b")
_ROW = re.compile(r"^\| (`[^|]*`[^|]*) \| ([^|]*) \|", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


def prose_of(path: Path) -> str:
    """Return a page without its blocks of code."""
    lines = path.read_text().splitlines()
    for block in blocks_of(path):
        for number in range(block.line - 1, block.line + len(block.text.splitlines()) + 1):
            lines[number] = ""
    return "\n".join(lines)


# --- links ----------------------------------------------------------------------------------------


def links() -> Iterator[tuple[Path, str]]:
    for page in LINKED:
        for target in _LINK.findall(prose_of(page)):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def anchor_of(heading: str) -> str:
    """Return what a code host makes of a heading."""
    plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {anchor_of(heading) for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for source, target in links():
        if source != page:
            continue
        path, _, anchor = unquote(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            dead.append(target)
    assert dead == []


def test_every_page_of_the_client_is_reached_from_its_first() -> None:
    index = CLIENT / "index.md"
    reached = {target for page, target in links() if page == index}
    assert {page.name for page in CLIENT.glob("*.md")} - {"index.md"} <= reached
    assert (README, "docs/client/index.md") in set(links())


# --- the client -----------------------------------------------------------------------------------


def rows_of(section: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading of configuration.md, by their names."""
    text = (CLIENT / "configuration.md").read_text().partition(f"\n## {section}")[2]
    table = text.partition("\n## ")[0]
    rows: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            rows.update(dict.fromkeys(_CODE.findall(first), others))
    return rows


def arguments_of(client: type) -> set[str]:
    parameters = inspect.signature(client).parameters.values()
    own = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    return own | ClientOptions.__optional_keys__


@pytest.mark.parametrize("client", [OperatorAI, AsyncOperatorAI])
def test_every_argument_is_documented(client: type) -> None:
    assert rows_of("Arguments of").keys() == arguments_of(client)


def test_every_option_of_a_call_is_documented() -> None:
    assert rows_of("Options of each call").keys() == ChangeOptions.__optional_keys__


def test_the_defaults_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPERATOR_BASE_URL", raising=False)
    defaults: dict[str, Any] = {
        "base_url": DEFAULT_BASE_URL,
        **{
            name: getattr(Configuration(read_base_url(None)), name)
            for name in ("timeout", "deadline", "max_retries", "validate")
        },
    }
    rows = rows_of("Arguments of")
    told = {name: rows[name][0].strip("`") for name in rows if rows[name][0] != "none"}
    assert told == {name: str(value) for name, value in defaults.items()}
    retries = (CLIENT / "retries.md").read_text()
    for name in ("max_retries", "timeout", "deadline"):
        assert f"| `{name}` | {defaults[name]:g}" in retries


def test_the_variable_of_an_argument_is_beside_it() -> None:
    beside = {name: _CODE.findall(row[1]) for name, row in rows_of("Arguments of").items()}
    assert {name: found for name, found in beside.items() if found} == {
        "api_key": ["OPERATOR_API_KEY"],
        "base_url": ["OPERATOR_BASE_URL"],
        "outbox": ["OPERATOR_OUTBOX"],
        "failure_log": ["OPERATOR_FAILURE_LOG"],
    }


def test_every_variable_of_the_client_is_documented() -> None:
    sources = [
        *(SOURCE / "client").glob("*.py"),
        *(SOURCE / "cli").glob("call*.py"),
        SOURCE / "vault" / "file_keys.py",  # the keys of what the client keeps
    ]
    used = {name for path in sources for name in _VARIABLE.findall(path.read_text())}
    arguments, others = rows_of("Arguments of"), rows_of("Other variables")
    documented = {name for row in arguments.values() for name in _CODE.findall(row[1])}
    documented |= {name for name in others if name.startswith("OPERATOR_")}
    assert documented == used


def test_no_page_names_a_variable_that_is_not_there() -> None:
    code = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    # A setting of the server is a field, and its variable is made of the name.
    known = set(_VARIABLE.findall(code)) | {
        f"OPERATOR_{name.upper()}" for name in re.findall(r"^    (\w+): ", code, re.MULTILINE)
    }
    named = {name for page in EXAMPLES for name in _VARIABLE.findall(page.read_text())}
    assert named - known == set()


def test_every_exception_is_drawn_where_it_belongs() -> None:
    drawing = next(block for block in blocks_of(CLIENT / "errors.md") if block.language == "text")
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in drawing.text.splitlines():
        found = re.match(r"(?P<indent>[│├└─ ]*)(?P<name>\w+)", line)
        assert found is not None
        depth = len(found["indent"]) // 4
        above[depth:] = [found["name"]]
        drawn[found["name"]] = above[depth - 1] if depth else None
    public = {
        name: kind
        for name in operator_api.__all__
        if isinstance(kind := getattr(operator_api, name), type) and issubclass(kind, OperatorError)
    }
    assert drawn.keys() == public.keys()
    for name, parent in drawn.items():
        assert parent is None or public[name].__base__ is public[parent], name


@pytest.mark.parametrize("name", ["OMIT", "OperatorAI", "AsyncOperatorAI"])
def test_what_else_is_exported_is_named(name: str) -> None:
    assert any(name in page.read_text() for page in CLIENT.glob("*.md"))


# --- the command line -----------------------------------------------------------------------------


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return every command with the words that it is called by."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_documented(words: tuple[str, ...]) -> None:
    line = f"operator-api {' '.join(words)}"
    assert any(line in page.read_text() for page in EXAMPLES), line


def test_every_option_of_call_is_documented() -> None:
    declared = {
        option
        for parameter in COMMANDS["call",].params
        for option in parameter.opts
        if option.startswith("--") and not getattr(parameter, "hidden", False)
    }
    page = (CLIENT / "call.md").read_text().partition("## All options")[2]
    documented = {
        option for row in _ROW.findall(page) for option in re.findall(r"--[\w-]+", row[0])
    }
    assert documented == declared - {"--help"}


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_no_page_uses_a_command_that_is_not_there(page: Path) -> None:
    first = {words[0] for words in COMMANDS}
    used = re.findall(r"(?:^\$ |`)operator-api ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(used) - first == set()
