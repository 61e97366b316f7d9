"""The curl and the Python that the page of each reason shows are run as they stand."""

import os
import subprocess
import sys

import pytest

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.examples import EXAMPLES
from operator_api.contract.pages import snippets
from tests.servers import Server

# What is simulated is played by tests/server/test_simulation.py.
PLAIN = [reason for reason, example in EXAMPLES.items() if not example.simulated]
PROGRAMS = {"curl": ("bash", "-euc"), "python": (sys.executable, "-c")}


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.parametrize("reason", PLAIN)
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


def test_no_page_shows_a_token() -> None:
    shown = [text for kind in CATALOGUE.values() for text in snippets(kind, None).values()]
    assert all("Bearer op_test_m" in text for text in shown if "Bearer op_" in text)
    assert len(shown) == 2 * len(CATALOGUE)
