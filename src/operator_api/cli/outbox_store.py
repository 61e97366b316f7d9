"""Open an outbox for a command, and say why it cannot be used.

This module imports the client; the commands that need it import it when they run.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from operator_api.cli.problems import PROGRAM, Failure, usage
from operator_api.client import ConfigurationError, OperatorAI, OutboxError
from operator_api.client.outbox.rows import (
    NoSuchWriteError,
    OutboxStatus,
    QueuedWrite,
    UnfitWriteError,
)
from operator_api.client.outbox.sealing import find_keys
from operator_api.client.outbox.store import OutboxStore
from operator_api.contract.suggest import nearest

VARIABLE = "OPERATOR_OUTBOX"


class OutboxFile:
    """An outbox that is there, without a client: it is looked at and changed, and not sent from."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        chosen = given or os.environ.get(VARIABLE)
        if not chosen:
            raise usage(
                "Which outbox? There is no --outbox, and OPERATOR_OUTBOX is not set.",
                f"Name the file that the client was given:\n  {PROGRAM} outbox status --outbox"
                " PATH",
                "no_outbox_given",
            )
        self.path = Path(chosen).absolute()
        if not self.path.exists():
            raise Failure(
                404,
                "outbox_missing",
                f"There is no outbox: the file {self.path} does not exist.",
                "Give --outbox, or the variable OPERATOR_OUTBOX, the file of a client. It is made"
                f" with the client:\n  OperatorAI(outbox={str(self.path)!r})",
                metadata={"path": str(self.path)},
            )
        with self.telling():
            self.store = OutboxStore(self.path, make=False)

    def command(self, *words: str) -> str:
        """Return a line to be copied: a command on the same outbox."""
        place = () if self._given is None else ("--outbox", self._given)
        return f"  {shlex.join((PROGRAM, 'outbox', *words, *place))}"

    def status(self, base_url: str | None = None) -> OutboxStatus:
        """Count what there is, with or without the key."""
        try:
            keys = find_keys(self.path, make=False)
        except OutboxError:
            keys = None
        with self.telling():
            return self.store.status(base_url, keys.ids if keys else frozenset())

    def pending(self, limit: int = -1) -> list[QueuedWrite]:
        """Return what is to be sent, oldest first."""
        with self.telling():
            return self.store.writes("pending", limit)

    def dead_letters(self, limit: int = -1) -> list[QueuedWrite]:
        """Return the dead letters, oldest first."""
        with self.telling():
            return self.store.writes("dead", limit)

    def retry(self, write_id: str, *, force: bool) -> QueuedWrite:
        """Put a dead letter back."""
        with self.telling():
            return self.store.requeue(write_id, force=force)

    def drop(self, write_id: str) -> QueuedWrite:
        """Take a write out for good."""
        with self.telling():
            return self.store.drop(write_id)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell what goes wrong as the API tells its errors."""
        try:
            yield
        except NoSuchWriteError as error:
            ids = [each.id for each in (*self.store.writes("dead"), *self.store.writes("pending"))]
            meant = next((nearest(word, ids) for word in str(error).split() if "_" in word), None)
            raise Failure(
                404,
                "resource_not_found",
                str(error) + (f" Did you mean {meant}?" if meant else ""),
                f"See what there is:\n{self.command('status')}",
                metadata={"resource": "write"},
            ) from error
        except UnfitWriteError as error:
            raise Failure(409, f"write_{error.reason}", str(error), self._advice(error)) from error
        except OutboxError as error:
            raise Failure(
                503,
                "outbox_unusable",
                str(error),
                f"See what is in it, which needs no key:\n{self.command('status')}",
                metadata={"path": str(self.path)},
            ) from error

    def _advice(self, error: UnfitWriteError) -> str:
        write_id = str(error).partition(" ")[0]
        if error.reason == "maybe_done":
            retry, drop = ("retry", write_id, "--force"), ("drop", write_id, "--yes")
            return (
                "If it was not done, send it under a new key; if it was, drop it:\n"
                f"{self.command(*retry)}\n{self.command(*drop)}"
            )
        if error.reason == "not_dead":
            return f"Send what is pending now:\n{self.command('drain')}"
        return f"Wait a moment, and see what became of it:\n{self.command('status')}"

    def drain(
        self,
        base_url: str | None,
        key_file: Path | None,
        deadline: float,
        on_change: Callable[[OutboxStatus], None],
    ) -> OutboxStatus:
        """Send what is pending for a server; return what is left."""
        try:
            with self.telling(), _client(base_url, _key(key_file), self.path) as client:
                return client.outbox.drain(deadline=deadline, on_change=on_change)
        except ConfigurationError as error:
            raise usage(
                str(error), f"See what it takes:\n  {PROGRAM} outbox drain --help"
            ) from error


def _client(base_url: str | None, api_key: str | None, path: Path) -> OperatorAI:
    if base_url is None:
        return OperatorAI(api_key=api_key, outbox=path)
    return OperatorAI(api_key=api_key, base_url=base_url, outbox=path)


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise usage(
            f"The key in {file} cannot be read: {why}.",
            "Name a file that holds the token and nothing else, or set OPERATOR_API_KEY.",
        ) from None
