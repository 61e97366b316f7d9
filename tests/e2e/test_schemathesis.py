"""Schemathesis, with all of its checks and phases, against the server and its own document.

``tests/e2e/schemathesis_hooks.py`` says what it is told beside the document, and why.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server, running

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
HOOKS = "tests.e2e.schemathesis_hooks"

# Examples and coverage of each schema come once; fuzzing and stateful testing, in small rounds, are
# repeated until the time is over. No constraints are guessed from the wording of errors, which is
# no part of the contract.
CONFIGURATION = """
seed = 1
max-time = {seconds}
continue-on-failure = true

[auth.openapi.token]
bearer = "{token}"

[generation]
database = "none"

[phases.coverage]
generate-duplicate-query-parameters = true

[phases.fuzzing]
error-feedback = {{ enabled = false }}
generation = {{ max-examples = 10 }}

[phases.stateful]
generation = {{ max-examples = 100 }}
"""
SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "75"))


def run(server: Server, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tool in the folder.

    The document is given as a file: were it given by its address, the tool would leave the
    operation at that address out.
    """
    with server.client() as api:
        token_id = api.get("/v1/me").json()["token_id"]
        (folder / "openapi.json").write_bytes(api.get("/openapi.json").content)
    (folder / "schemathesis.toml").write_text(
        CONFIGURATION.format(token=server.token, seconds=SECONDS)
    )
    variables = {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": HOOKS,
        "SCHEMATHESIS_TOKEN_ID": token_id,
    }
    command = [str(SCHEMATHESIS), "run", "openapi.json", "--url", server.url]
    return subprocess.run(
        [*command, "--checks", "all", "--no-color"],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(SECONDS + 300)
def test_the_server_is_as_its_document_says(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        done = run(server, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [line for line in server.errors if "Traceback" in line]
