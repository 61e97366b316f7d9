"""Read a failed-request log for a command, and say why it cannot be read.

This module imports the client; the commands that need it import it when they run.
"""

import csv
import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from operator_api.cli.failure_pages import printable
from operator_api.cli.problems import PROGRAM, Failure, usage
from operator_api.client.failures.entries import (
    FailureEntry,
    SealedByAnotherKey,
    Tampered,
    default_path,
    filled_files,
    find_keys,
    read,
)
from operator_api.contract.fields import to_microseconds
from operator_api.contract.suggest import nearest
from operator_api.vault.file_keys import SECRET_KEYS, FileKeys, key_file
from operator_api.vault.keys import UnusableKeyError

# What begins a formula in a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; None takes all. ``status`` is a number, a class or ``none``."""

    status: str | None = None
    reason: str | None = None
    operation: str | None = None
    since: datetime | None = None
    request_id: str | None = None
    key: str | None = None

    def passes(self, entry: FailureEntry) -> bool:
        """Say whether the entry is wanted."""
        return (
            self._has_status(entry.status)
            and self.reason in (None, entry.reason)
            and self.operation in (None, entry.operation)
            and self.request_id in (None, entry.request_id, entry.call_id)
            and self.key in (None, entry.idempotency_key)
            and (self.since is None or entry.at >= to_microseconds(self.since))
        )

    def _has_status(self, status: int | None) -> bool:
        if self.status is None:
            return True
        if status is None or self.status == "none":
            return status is None and self.status == "none"
        return self.status in (str(status), f"{status // 100}xx")


class LogReader:
    """An opened log."""

    def __init__(self, path: Path, given: str | None) -> None:
        self.path = path
        self._given = given
        failures = read(path)
        try:
            self._entries = sorted(failures, key=lambda entry: (entry.at, entry.id))
        except OSError as error:
            raise Failure(
                503,
                "log_unreadable",
                f"The log {path.absolute()} cannot be read: {error.strerror}.",
                "Give --log the file, and run this as the user whose program wrote it:\n"
                f"  ls -la {shlex.quote(str(path.absolute().parent))}",
                metadata={"path": str(path.absolute())},
            ) from error
        self.skipped = failures.skipped
        self._keys: FileKeys | None = None

    def command(self, *words: str) -> str:
        """Return a line to be copied: a command on the same log."""
        place = () if self._given is None else ("--log", self._given)
        return f"  {shlex.join((PROGRAM, 'failures', *words, *place))}"

    def find(self, wanted: Filter) -> list[FailureEntry]:
        """Return what passes, newest first."""
        return [entry for entry in reversed(self._entries) if wanted.passes(entry)]

    def get(self, failure_id: str) -> FailureEntry:
        """Return the entry of this id, or the newest for ``last``."""
        if failure_id == "last" and self._entries:
            return self._entries[-1]
        for entry in self._entries:
            if entry.id == failure_id:
                return entry
        meant = nearest(failure_id, [entry.id for entry in self._entries])
        # What has not the form of an id is not told back: it may be a secret, pasted by mistake.
        named = f" {failure_id}" if failure_id.startswith("flr_") else " of this id"
        raise Failure(
            404,
            "resource_not_found",
            f"There is no failure{named} in {self.path}."
            + (f" Did you mean {meant}?" if meant else ""),
            f"See which there are; old ones are removed:\n{self.command('list')}",
            metadata={"resource": "failure"},
        )

    def attempts_like(self, entry: FailureEntry) -> list[FailureEntry]:
        """Return the failed attempts of the same call, or with the same key, oldest first."""
        key = entry.idempotency_key
        return [
            other
            for other in self._entries
            if other.call_id == entry.call_id or (key is not None and other.idempotency_key == key)
        ]

    def open(self, entry: FailureEntry) -> tuple[dict[str, Any] | None, str | None]:
        """Return the redacted bodies, or None and what is needed to see them."""
        if not entry.sealed:
            return None, f"the client had no key to seal them with. Set {SECRET_KEYS} there."
        try:
            if self._keys is None:
                self._keys = find_keys(self.path)
            if self._keys is not None:
                return entry.open(self._keys), None
        except SealedByAnotherKey:
            return (
                None,
                f"they were sealed by another key, {entry.key_id}. Add it to {SECRET_KEYS}.",
            )
        except Tampered as error:
            raise Failure(
                409,
                "entry_tampered",
                f"The entry {entry.id} is not as it was written: its line was changed, or damaged.",
                "Do not rely on it. This is the line:\n"
                f"  grep {entry.id} {shlex.quote(str(self.path))}*",
                metadata={"id": entry.id, "path": str(self.path)},
            ) from error
        except UnusableKeyError as error:
            source = SECRET_KEYS if os.environ.get(SECRET_KEYS) else str(key_file(self.path))
            raise Failure(
                503,
                "key_unusable",
                f"The key of {source} cannot be used: {error}.",
                "Give the keys that the client had: 32 bytes each in base64, with commas between.",
                metadata={"source": source},
            ) from error
        return None, (
            f"they are sealed by the key {entry.key_id}. Set {SECRET_KEYS} to what the client had,"
            f" or put its file at {key_file(self.path)}."
        )


def open_log(given: str | None) -> LogReader:
    """Open the log of the option, of the variable, or of this user."""
    path = Path(given) if given is not None else default_path()
    if not path.exists() and not filled_files(path):
        raise Failure(
            404,
            "log_missing",
            f"There is no log of failures: the file {path.absolute()} does not exist.",
            "Give --log, or the variable OPERATOR_FAILURE_LOG, the file that a client writes. It is"
            " made with the first failure of:\n"
            f"  OperatorAI(failure_log={str(path.absolute())!r})",
            metadata={"path": str(path.absolute())},
        )
    return LogReader(path, given)


def write_export(
    rows: Sequence[dict[str, Any]], form: str, out: str | None, *, with_bodies: bool
) -> None:
    """Write the rows to a new file, which only its owner may read, or to standard output."""
    names = [field for field in FailureEntry.__slots__ if field[0] != "_"]
    names += ["bodies", "bodies_missing"] if with_bodies else []
    text = (
        _as_csv(rows, names) if form == "csv" else "".join(json.dumps(row) + "\n" for row in rows)
    )
    if out is None:
        sys.stdout.write(text)
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise usage(
            f"The file {out} exists already.",
            f"Give --out a new one, or remove it:\n  rm {shlex.quote(out)}",
            "file_exists",
        ) from None
    except OSError as error:
        raise Failure(
            503,
            "file_unwritable",
            f"The file {out} cannot be written: {error.strerror}.",
            "Give --out a file in a folder that is there and may be written to.",
            metadata={"path": out},
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def _as_csv(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Write a value so that no spreadsheet takes it for a formula."""
    if isinstance(value, (list, dict)):
        value = json.dumps(value)
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(_FORMULA) else value)
