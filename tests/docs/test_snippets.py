"""The curl and the Python that the page of each reason shows are run as they stand."""

import os
import subprocess
import sys

import pytest

from operator_api.client.errors import error_class
from operator_api.contract.errors import CATALOGUE
from operator_api.contract.examples import EXAMPLES
from operator_api.contract.pages import EXCEPTIONS, snippets
from tests.servers import Server

PROGRAMS = {"curl": ("bash", "-euc"), "python": (sys.executable, "-c")}


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.parametrize("reason", EXAMPLES)
def test_what_a_page_shows_provokes_its_reason(server: Server, reason: str, language: str) -> None:
    text = snippets(CATALOGUE[reason], server.url)[language]
    done = subprocess.run(
        [*PROGRAMS[language], text],
        env={"PATH": os.environ["PATH"], "OPERATOR_API_KEY": server.token},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    printed = done.stdout
    assert f'"reason":"{reason}"' in printed
    assert str(CATALOGUE[reason].status) in printed or CATALOGUE[reason].of_field
    assert done.stderr == ""


def test_the_exception_of_each_status_is_the_clients() -> None:
    for kind in CATALOGUE.values():
        name = EXCEPTIONS.get(kind.status, "APIStatusError")
        assert error_class(kind.status).__name__ == name


def test_no_page_shows_a_token() -> None:
    shown = [text for kind in CATALOGUE.values() for text in snippets(kind, None).values()]
    assert all("Bearer op_test_m" in text for text in shown if "Bearer op_" in text)
    assert len(shown) == 2 * len(CATALOGUE)
