"""The entries of the failed-request log: where they are, how they are read, and what opens them.

Reading takes nothing of the client but this file, so that the command line starts quickly.
"""

import json
import os
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from operator_api.vault import file_keys
from operator_api.vault.file_keys import FileKeys, KeyNotAtHand
from operator_api.vault.seal import Unsealable

_PURPOSE = "failure log"
SEALED = b',"sealed":'

_tail = re.compile(rb'(?:null|"(?P<text>[A-Za-z0-9+/=]+)")}\n?')


class UnopenableEntry(Exception):
    """The sealed part of an entry cannot be read."""


class NotSealed(UnopenableEntry):
    """There is no sealed part: there was no key when it was written."""


class SealedByAnotherKey(UnopenableEntry):
    """None of the keys given is the one that sealed it."""


class Tampered(UnopenableEntry):
    """Its key is there, and does not open it: the line is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureEntry:
    """One line of the log. The members are those of FailedAttempt, redacted; bodies are sizes."""

    id: str
    at: int
    operation: str
    method: str
    path: str
    url: str
    status: int | None
    reason: str | None
    request_id: str | None
    call_id: str
    idempotency_key: str | None
    attempt: int
    delay: float | None
    error: str
    outcome: str
    message: str
    elapsed_ms: float
    request_headers: list[list[str]] = field(repr=False)
    request_bytes: int | None
    response_headers: list[list[str]] = field(repr=False)
    response_bytes: int | None
    key_id: str | None

    _context: bytes = field(default=b"", repr=False)
    _text: bytes = field(default=b"", repr=False)

    @property
    def sealed(self) -> bool:
        """Whether there are bodies, for whoever has the key."""
        return self.key_id is not None

    def open(self, keys: FileKeys) -> dict[str, Any]:
        """Return ``request`` and ``response``, the redacted bodies; raise UnopenableEntry."""
        if self.key_id is None:
            raise NotSealed("the entry was written without a key")
        try:
            text = keys.open(self.key_id, self._text, self._context)
        except KeyNotAtHand:
            raise SealedByAnotherKey(f"it was sealed by the key {self.key_id}") from None
        except Unsealable:
            raise Tampered("the line is not as it was written") from None
        bodies: dict[str, Any] = json.loads(text)
        return bodies

    def as_json(self) -> dict[str, Any]:
        """Return what is in clear."""
        return {name: value for name, value in asdict(self).items() if name[0] != "_"}


_NUMBER = (int, float)
_MEMBERS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "at": (int,),
    "operation": (str,),
    "method": (str,),
    "path": (str,),
    "url": (str,),
    "status": (int, type(None)),
    "reason": (str, type(None)),
    "request_id": (str, type(None)),
    "call_id": (str,),
    "idempotency_key": (str, type(None)),
    "attempt": (int,),
    "delay": (*_NUMBER, type(None)),
    "error": (str,),
    "outcome": (str,),
    "message": (str,),
    "elapsed_ms": _NUMBER,
    "request_headers": (list,),
    "request_bytes": (int, type(None)),
    "response_headers": (list,),
    "response_bytes": (int, type(None)),
    "key_id": (str, type(None)),
}


def log_keys(keys: Sequence[bytes]) -> FileKeys:
    """Return what seals and opens a log with these keys. Raises UnusableKeyError."""
    return FileKeys(keys, _PURPOSE)


def find_keys(path: Path, *, make: bool = False) -> FileKeys | None:
    """Return the keys at hand for a log, None if there are none; ``make`` makes one beside it.

    Raises UnusableKeyError or OSError, which show no key.
    """
    return file_keys.find_keys(path, _PURPOSE, make=make)


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the log is unless told: in the folder where the user's programs keep state."""
    if told := environ.get("OPERATOR_FAILURE_LOG"):
        return Path(told)
    state = environ.get("XDG_STATE_HOME", "")
    if sys.platform == "win32":
        state = environ.get("LOCALAPPDATA", "")
    folder = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return folder / "operator-api" / "failures.jsonl"


# --- reading --------------------------------------------------------------------------------------


def filled_files(path: Path) -> list[Path]:
    """Return the log's earlier files, oldest first."""
    named = re.compile(rf"{re.escape(path.name)}\.[0-9]{{20}}").fullmatch
    try:
        return sorted(file for file in path.parent.iterdir() if named(file.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


class Failures:
    """The entries of a log, as they were written. ``skipped`` counts the lines that are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped = 0

    def __iter__(self) -> Iterator[FailureEntry]:
        self.skipped = 0
        with ExitStack() as stack:
            # The newest is opened first: if it is turned over now, it is met twice, and not missed.
            files, met = [], set()
            for path in (self._path, *reversed(filled_files(self._path))):
                with suppress(FileNotFoundError):  # nothing is recorded yet, or it was pruned
                    file = stack.enter_context(path.open("rb"))
                    status = os.fstat(file.fileno())
                    if (status.st_dev, status.st_ino) not in met:
                        met.add((status.st_dev, status.st_ino))
                        files.append(file)
            for file in reversed(files):
                for line in file:
                    entry = _entry(line)
                    if entry is not None:
                        yield entry
                    elif line.strip():
                        self.skipped += 1


def read(path: str | Path) -> Failures:
    """Read a log, with its earlier files. There may be none: then there are no entries."""
    return Failures(Path(path))


def _entry(line: bytes) -> FailureEntry | None:
    # What is read in clear is exactly what was sealed with: nothing may follow the sealed part.
    head, _, tail = line.rpartition(SEALED)
    match = _tail.fullmatch(tail)
    try:
        row = json.loads(head + b"}")
        members = {name: row[name] for name in _MEMBERS}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    typed = all(isinstance(members[name], types) for name, types in _MEMBERS.items())
    if match is None or not typed:
        return None
    if not (_are_headers(row["request_headers"]) and _are_headers(row["response_headers"])):
        return None
    return FailureEntry(**members, _context=head, _text=_bytes(match["text"] or b""))


def _bytes(text: bytes) -> bytes:
    """Read base64; what is not written as we write it was changed, and opens with no key."""
    try:
        read = b64decode(text)
    except ValueError:
        return b""
    return read if b64encode(read) == text else b""


def _are_headers(headers: list[Any]) -> bool:
    return all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)
        for pair in headers
    )
