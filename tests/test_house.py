"""The rules of the house that no tool has a setting for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "operator_api"
CONTRACT = SOURCE / "contract"
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("base", "server", "dev")

# Put together here, so that this file holds none of what it looks for.
SLASH = "/"
HOSTS = [
    f"{name}.{domain}"
    for name, domain in [
        ("pypi", "org"),
        ("files.pythonhosted", "org"),
        ("registry.npmjs", "org"),
        ("deb.debian", "org"),
    ]
]
MACHINE_PATH = re.compile(r"(?<![\w./:-])/(?:root\b|home/|work/)(?!-)")

IGNORE = re.compile(r"#\s*(?:type:\s*ignore|(?:ruff:\s*)?noqa)\b")
REASONED_IGNORE = re.compile(
    r"#\s*(?:type:\s*ignore\[[\w, -]+\]|(?:ruff:\s*)?noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)"
    r"\s*(?:#|-+|—)\s*\w"
)

# One pin as uv writes it: the version, its hashes, and on whose account it is there.
PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; .+)? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
    r"(?P<via>(?:    #.*\n)+)",
    re.MULTILINE,
)


def tracked_files() -> list[Path]:
    """Every file that is, or with the next `git add --all` will be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def python_files(folder: Path) -> list[Path]:
    return [p for p in tracked_files() if p.suffix == ".py" and p.is_relative_to(folder)]


def text_of(path: Path) -> str | None:
    """The file's text, or None for a file that is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pins_of(lock: str) -> dict[str, str]:
    text = (REQUIREMENTS / f"{lock}.txt").read_text()
    return {canonicalize_name(pin["name"]): pin["version"] for pin in PIN.finditer(text)}


def declared_for(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for by name in this lock."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared: dict[str, Any] = tomllib.load(file)
    requirements = list(declared["project"]["dependencies"])
    if lock in ("server", "dev"):
        requirements += declared["project"]["optional-dependencies"]["server"]
    if lock == "dev":
        requirements += declared["dependency-groups"]["dev"]
    return [Requirement(requirement) for requirement in requirements]


# Source files of over 500 lines, each with its reason.
LONG = {
    "src/operator_api/contract/errors.py": "the catalogue is one table, a row for each reason",
}


def test_source_files_are_short() -> None:
    lengths = {
        name_of(path): len(text.splitlines())
        for path in tracked_files()
        if path.is_relative_to(SOURCE) and (text := text_of(path)) is not None
    }
    long = {name: length for name, length in lengths.items() if length > 500}
    assert set(long) - set(LONG) == set(), long
    assert set(LONG) - set(long) == set(), "no longer long: take it off the list"


def test_modules_are_named_for_what_they_hold() -> None:
    nondescript = {"utils", "util", "helpers", "helper", "misc", "common"}
    modules = {name_of(path) for path in python_files(ROOT) if path.stem in nondescript}
    packages = {name_of(path) for path in python_files(ROOT) if path.parent.name in nondescript}
    assert modules | packages == set()


def test_init_files_hold_no_logic() -> None:
    def is_plain(statement: ast.stmt, path: Path) -> bool:
        match statement:
            # The package's own face: it loads the client when one of its names is asked for (PEP
            # 562), since the server and its tools import the package as well, and need no client.
            case ast.FunctionDef(name="__getattr__") | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return path == SOURCE / "__init__.py"
            case ast.Expr(value=ast.Constant(value=str())):
                return True
            case ast.Import() | ast.ImportFrom():
                return True
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
                return True
            case _:
                return False

    logic = [
        f"{name_of(path)}:{statement.lineno}"
        for path in python_files(SOURCE)
        if path.name == "__init__.py"
        for statement in ast.parse(path.read_text()).body
        if not is_plain(statement, path)
    ]
    assert logic == []


@pytest.mark.parametrize(
    ("comment", "reasoned"),
    [
        ("# type: ignore", False),
        ("# type: ignore[arg-type]", False),
        ("# type: ignore[arg-type]  # the stub is wrong", True),
        ("# noqa", False),
        ("# noqa: S608", False),
        ("# noqa: S608, S603  # our own names", True),
        ("# noqa: BLE001 - the last line of defence", True),
        ("# ruff: noqa", False),
    ],
)
def test_the_form_of_an_ignore(comment: str, reasoned: bool) -> None:
    assert IGNORE.search(comment)
    assert bool(REASONED_IGNORE.search(comment)) is reasoned


def test_each_ignore_names_its_code_and_its_reason() -> None:
    unexplained = []
    for path in python_files(ROOT):
        with path.open("rb") as file:
            unexplained += [
                f"{name_of(path)}:{token.start[0]}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT
                and IGNORE.search(token.string)
                and not REASONED_IGNORE.search(token.string)
            ]
    assert unexplained == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1)
        if MACHINE_PATH.search(line) or any(host in line for host in HOSTS)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (f"cd {SLASH}root/project", True),
        (f"see {SLASH}home/me/notes", True),
        (f"'{SLASH}work/main'", True),
        (f"https://example.com{SLASH}home/page", False),
        (f"src{SLASH}root.py", False),
        ("/rooted", False),
    ],
)
def test_what_counts_as_a_path_of_a_machine(line: str, named: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is named


def test_contract_imports_only_pydantic_and_the_standard_library() -> None:
    """import-linter can only name what is forbidden; this is the list of what is allowed."""
    allowed = sys.stdlib_module_names | {"pydantic", "pydantic_core"}
    foreign = []
    for path in python_files(CONTRACT):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            foreign += [
                f"{name_of(path)}:{node.lineno}: {module}"
                for module in modules
                if module.split(".")[0] not in allowed
                and not f"{module}.".startswith("operator_api.contract.")
            ]
    assert foreign == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_only_pins_with_hashes(lock: str) -> None:
    rest = PIN.sub("", (REQUIREMENTS / f"{lock}.txt").read_text())
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_gives_no_address(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.txt").read_text()
    assert re.findall(r"\w+://\S*| @ .*|--(?:index|extra-index|find-links)\S*", text) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_answers_what_pyproject_declares(lock: str) -> None:
    pins = pins_of(lock)
    unanswered = [
        str(requirement)
        for requirement in declared_for(lock)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert unanswered == [], "pyproject.toml and the lock differ: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_nothing_that_is_no_longer_declared(lock: str) -> None:
    direct = {
        canonicalize_name(pin["name"])
        for pin in PIN.finditer((REQUIREMENTS / f"{lock}.txt").read_text())
        if "operator-api (pyproject.toml" in pin["via"]
    }
    assert direct == {canonicalize_name(requirement.name) for requirement in declared_for(lock)}


def test_the_locks_agree() -> None:
    base, server, dev = (pins_of(lock) for lock in LOCKS)
    assert base.items() <= server.items() <= dev.items()
