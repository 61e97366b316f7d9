"""The failed-request log: each attempt that failed, on this machine, for whoever must find out why.

One line of JSON for each attempt. What helps and harms nobody is in clear; bodies are redacted and
then sealed, with everything in clear on the line as their context, so that no line can be changed
or take another's place unnoticed. Without a key to seal with there is the clear part alone.

::

    failures.jsonl                         what is written to
    failures.jsonl.01763832510123456789    filled up earlier; the time is in nanoseconds
    failures.jsonl.lock                    held while one process turns the file over
    failures.jsonl.key                     the key, where one was asked for

Nothing is held open between two records, so threads, forks and other processes need no care: each
record opens the file, appends one line with one write, and closes it.
"""

import errno
import itertools
import json
import logging
import math
import os
import random
import re
import stat
import sys
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from operator_api.client.failures.attempt import FailedAttempt, Headers
from operator_api.client.failures.entries import (
    SEALED,
    filled_files,
    find_keys,
    log_keys,
)
from operator_api.client.failures.known import KNOWN
from operator_api.vault.documents import Redactor
from operator_api.vault.file_keys import SECRET_KEYS, FileKeys
from operator_api.vault.redact import redact_identifier, redact_text

if sys.platform != "win32":
    import fcntl

MAX_BYTES = 4 * 1024 * 1024
MAX_AGE = 30 * 86_400.0
KEEP_FILES = 4

log = logging.getLogger("operator_api.client")

# O_NONBLOCK, for a pipe not to be waited for; what is not a file is then refused.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FIRST = re.compile(rb'\{"v":1,"at":([0-9]{1,17}),')
_SPANS = 4
# While another process turns the file over, or nobody can, it may grow to so many times its size.
_OVERFULL = 10


class FailureLog:
    """A log that several threads and processes may share. What goes wrong in it stays in it.

    ``keys`` seal the bodies; without them, those of ``find_keys`` do, and ``make_key`` makes one
    beside the log. No more than ``keep_files`` filled files of ``max_bytes`` are kept beside the
    one that is written, and nothing that is older than ``max_age`` seconds when a record is made.
    """

    def __init__(
        self,
        path: str | Path,
        keys: Sequence[bytes] | None = None,
        *,
        make_key: bool = False,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        keep_files: int = KEEP_FILES,
    ) -> None:
        self.path = Path(path)
        self._given = keys
        self._make_key = make_key
        self._keys: FileKeys | None = None
        self._keys_sought = False
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._keep_files = keep_files
        self._prune_at = 0.0
        self._redactor = Redactor(KNOWN)
        self._closed = False
        # Counting is atomic, and needs no lock that a fork could leave held.
        self._warnings = {name: itertools.count() for name in ("unsealed", "unwritten")}

    def record(self, attempt: FailedAttempt) -> None:
        """Append the attempt. Never raises: the first failure is told by a warning, once."""
        if self._closed:
            return
        try:
            self._append(self._line(attempt))
        except Exception as error:  # noqa: BLE001 - a failing log never fails the call
            why = error.strerror if isinstance(error, OSError) else None
            message = "Failed requests are not recorded: %s cannot be written (%s)."
            self._warn("unwritten", message, self.path, why or type(error).__name__)

    def close(self) -> None:
        """Record no more. Nothing is open that would have to be closed."""
        self._closed = True

    def _warn(self, name: str, message: str, *values: object) -> None:
        if next(self._warnings[name]) == 0:
            log.warning(message, *values)

    def _line(self, attempt: FailedAttempt) -> bytes:
        keys = self._find_keys()
        row = _row(attempt, self._redactor) | {"key_id": None if keys is None else keys.key_id}
        head = json.dumps(row, separators=(",", ":"), allow_nan=False)[:-1].encode()
        if keys is None:
            return head + SEALED + b"null}\n"
        request, response = map(self._body, (attempt.request_body, attempt.response_body))
        text = b'{"request":%b,"response":%b}' % (request, response)
        return head + SEALED + b'"%b"}\n' % b64encode(keys.seal(text, head))

    def _body(self, body: bytes | None) -> bytes:
        return b"null" if body is None else self._redactor.body(body)

    def _find_keys(self) -> FileKeys | None:
        if self._keys_sought:
            return self._keys
        why = f"there is no key; set {SECRET_KEYS} to keep them sealed"
        try:
            if self._given is not None:
                self._keys = log_keys(self._given)
            else:
                if self._make_key:
                    _make_folder(self.path)
                self._keys = find_keys(self.path, make=self._make_key)
        except Exception as error:  # noqa: BLE001 - without a key there is still the clear part
            why = f"the key cannot be used ({type(error).__name__})"
        self._keys_sought = True
        if self._keys is None:
            self._warn("unsealed", "Failed requests are recorded without their bodies: %s.", why)
        return self._keys

    def _append(self, line: bytes) -> None:
        now = time.time()
        if now >= self._prune_at:
            self._prune(now)
        descriptor = _open(self.path)
        try:
            if self._is_due(descriptor, len(line), now):
                self._turn_over(descriptor, now)
                fresh = _open(self.path)
                os.close(descriptor)
                descriptor = fresh
            size = os.fstat(descriptor).st_size
            if size > _OVERFULL * self._max_bytes:
                raise OSError(errno.EFBIG, "it is full, and cannot be turned over")
            # A line that was cut off, by a kill or a full disk, must not spoil this one.
            if (
                size
                and os.lseek(descriptor, size - 1, os.SEEK_SET)
                and os.read(descriptor, 1) != b"\n"
            ):
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _is_due(self, descriptor: int, more: int, now: float) -> bool:
        size = os.fstat(descriptor).st_size
        if size == 0:
            return False
        if size + more > self._max_bytes:
            return True
        first = _FIRST.match(os.read(descriptor, 32))
        return first is not None and int(first[1]) / 1e6 < now - self._max_age / _SPANS

    def _turn_over(self, descriptor: int, now: float) -> None:
        """Rename the file, unless another process does or did. Who has it open loses nothing."""
        with _locked(self.path) as held:
            if not held:
                return
            try:
                same = os.path.samestat(os.fstat(descriptor), self.path.stat())
            except FileNotFoundError:
                return
            if same:
                name = time.time_ns()
                while (target := _numbered(self.path, name)).exists():
                    name += 1
                with suppress(PermissionError):  # where what is open cannot be renamed: Windows
                    self.path.rename(target)
        self._prune(now)

    def _prune(self, now: float) -> None:
        """Remove the files beyond the number that is kept, and those that are too old."""
        self._prune_at = now + self._max_age / 100
        files = filled_files(self.path)
        beyond = len(files) - self._keep_files
        oldest = now - self._max_age * (1 - 1 / _SPANS)
        for position, file in enumerate(files):
            with suppress(FileNotFoundError):  # another process was faster
                if position < beyond or file.stat().st_mtime < oldest:
                    file.unlink()


def _row(attempt: FailedAttempt, redactor: Redactor) -> dict[str, Any]:
    """Return what is written in clear. ``v`` and ``at`` come first: so a file tells its age."""
    name = redact_identifier
    return {
        "v": 1,
        "at": int(attempt.at),
        "id": f"flr_{time.time_ns():016x}{random.getrandbits(64):016x}",
        "operation": name(attempt.operation),
        "method": name(attempt.method),
        "path": name(attempt.path),
        "url": _plain_url(attempt.url),
        "status": attempt.status,
        "reason": _optional(attempt.reason),
        "request_id": _optional(attempt.request_id),
        "call_id": name(attempt.call_id),
        "idempotency_key": _optional(attempt.idempotency_key),
        "attempt": attempt.attempt,
        "delay": _finite(attempt.delay),
        "error": name(attempt.error),
        "outcome": name(attempt.outcome),
        "message": redact_text(attempt.message),
        "elapsed_ms": round(_finite(attempt.elapsed_ms) or 0.0, 3),
        "request_headers": redactor.headers(_pairs(attempt.request_headers)),
        "request_bytes": None if attempt.request_body is None else len(attempt.request_body),
        "response_headers": redactor.headers(_pairs(attempt.response_headers)),
        "response_bytes": None if attempt.response_body is None else len(attempt.response_body),
    }


def _optional(text: str | None) -> str | None:
    return None if text is None else redact_identifier(text)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _plain_url(url: str) -> str:
    """Return the URL without userinfo, query and fragment, which hold what is nobody's business."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return redact_text(url)
    host = parts.netloc.rpartition("@")[2]
    return redact_text(f"{parts.scheme}://{host}{parts.path}")


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        _make_folder(path)
        descriptor = os.open(path, _FLAGS, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file")
    if status.st_mode & 0o077 and sys.platform != "win32":
        with suppress(PermissionError):  # it belongs to another user, who decides
            os.fchmod(descriptor, 0o600)
    return descriptor


def _make_folder(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock, or say that another process does: nobody waits for a log."""
    if sys.platform == "win32":
        yield True
        return
    try:
        descriptor = os.open(path.with_name(f"{path.name}.lock"), _FLAGS, 0o600)
    except OSError:  # the file may be written to, but not its folder
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        # Not by closing alone: a child that was forked meanwhile would hold it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number:020d}")
