"""Run ``operator-api call`` as in a shell, and require what holds of whatever it prints."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.errors import MEMBERS

PROGRAM = [sys.executable, "-m", "operator_api.cli", "call"]

Done = subprocess.CompletedProcess[str]


def environment(url: str, token: str | None, **variables: str) -> dict[str, str]:
    ours = ("OPERATOR_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    key = {} if token is None else {"OPERATOR_API_KEY": token}
    return {**kept, "OPERATOR_BASE_URL": url, **key, **variables}


class Shell:
    """Runs the command against a server."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token

    def run(self, *words: str, sent: str = "", **variables: str) -> Done:
        done = subprocess.run(
            [*PROGRAM, *words],
            env=environment(self.url, self.token, **variables),
            input=sent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "\x1b" not in done.stdout + done.stderr, "colours, where there is no terminal"
        assert not self.token or self.token not in done.stdout + done.stderr
        return done

    def says(self, *words: str, sent: str = "") -> Any:
        """Require success; return what was printed, as JSON."""
        done = self.run(*words, "--json", sent=sent)
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    def fails(self, code: int, *words: str, sent: str = "") -> str:
        """Require that it fails, in words that come on standard error alone; return them."""
        done = self.run(*words, sent=sent)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.startswith("Error: ")
        return done.stderr

    def error(self, code: int, *words: str) -> dict[str, Any]:
        """Require that it fails; return the JSON document on standard error."""
        done = self.run(*words, "--json")
        assert (done.returncode, done.stdout) == (code, ""), done
        document: dict[str, Any] = json.loads(done.stderr)
        assert [name for name in document["error"] if name in MEMBERS] == MEMBERS
        return document
