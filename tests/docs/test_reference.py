"""The reference says what the tables say, and its examples run."""

import os
import re
import subprocess
import sys
from dataclasses import asdict

import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.contract.pages import LOCAL
from operator_api.server.settings import PREFIX, Settings
from tests.calls import make_records, name_of, new_email
from tests.docs.pages import FOLDER, MADE, blocks_of
from tests.docs.reference import PAGES, command_words, made
from tests.servers import Server

REFERENCE = FOLDER / "reference"


def text_of(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def headings_of(name: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", text_of(name), re.MULTILINE))


def test_what_is_made_is_named() -> None:
    assert {page.name for page in MADE} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_table_says(name: str) -> None:
    assert text_of(name) == made(name), "run `python -m tests.docs.reference`"


def test_every_reason_operation_command_and_setting_is_there() -> None:
    assert set(CATALOGUE) <= headings_of("errors.md")
    assert {operation.name for operation in OPERATIONS} <= headings_of("operations.md")
    assert {" ".join(("operator-api", *words)) for words in command_words()} <= headings_of(
        "commands.md"
    )
    variables = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert variables <= set(re.findall(r"`(OPERATOR_\w+)`", text_of("settings.md")))


def examples_of(operation: Operation) -> dict[str, str]:
    """Return the operation's examples, by language."""
    page = text_of("operations.md").partition(f"\n### {operation.name}\n")[2]
    section = page.partition("\n### ")[0]
    return dict(re.findall(r"```(\w+)\n(.*?)\n```", section, re.DOTALL))


PROGRAMS = {"shell": ("bash", "-euc"), "python": (sys.executable, "-c")}


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=name_of)
def test_the_examples_of_an_operation_run(
    server: Server, operation: Operation, language: str
) -> None:
    """Its ids, which are examples, are replaced by those of records that are there."""
    with server.client() as api:
        records = asdict(make_records(api))
    text = examples_of(operation)[language].replace(LOCAL, server.url)
    for value in records.values():
        text = re.sub(rf"\b{value[:4]}[0-9a-f]{{32}}\b", value, text) if "_" in value else text
    text = text.replace("ada@example.com", new_email())
    done = subprocess.run(
        [*PROGRAMS[language], text],
        env={
            "PATH": os.environ["PATH"],
            "OPERATOR_API_KEY": server.token,
            "OPERATOR_BASE_URL": server.url,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    if language == "shell":
        assert done.stdout.startswith(f"HTTP/1.1 {operation.status} ")


def test_no_block_of_the_reference_is_of_another_kind() -> None:
    languages = {block.language for page in MADE for block in blocks_of(page)}
    assert languages == {"shell", "python", "text"}
