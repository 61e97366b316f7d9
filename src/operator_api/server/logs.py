"""The server's own log, on standard error: one line for each event, for people or for machines.

Whatever logs, ours or a library's, goes through the same: structlog makes a line of JSON of it, or
one for people where there is a terminal. No value of a caller's can end a line, colour it or turn
its direction: what cannot be printed is escaped, and what looks like a secret or a person's data is
masked. The lines are written by a thread of their own, from a queue that drops, and counts what it
drops, rather than let a request wait.

::

    logging_to       the log, for as long as a server runs
    RequestLines     a line for each failed request, and no more of them than can be read
"""

import json
import logging
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from operator_api.contract.errors import SHUTTING_DOWN
from operator_api.server.exchange import Exchange, Response
from operator_api.server.metrics import reason_of
from operator_api.vault.redact import redact_text

Format = Literal["auto", "json", "text"]

MOST_WAITING = 10_000
# Lines on requests in a second, of each kind: the request log has all of them.
LINES_PER_SECOND = 50
_STOP_SECONDS = 2.0

# Ids and names of our own, which need no masking and must stay whole.
_OURS = frozenset(
    {"level", "logger", "timestamp", "request_id", "trace_id", "http_method", "http_route"}
    | {"status", "reason", "outcome", "token_id"}
)

log = logging.getLogger("operator_api.requests")


# --- lines ---


def _plain(value: Any) -> Any:
    """Mask what looks like a secret, and escape what cannot be printed."""
    return _printable(redact_text(value)) if isinstance(value, str) else value


def _printable(text: str) -> str:
    """Escape control characters, ANSI escapes, and separators and directions of lines."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode()
        for each in text
    )


def _head(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put first when, how grave and what; leave out what is not known."""
    record = event["_record"]
    when = datetime.fromtimestamp(record.created, UTC)
    head = {
        "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": method,
        "event": event.pop("event"),
        "logger": record.name,
    }
    return head | {name: value for name, value in event.items() if value is not None}


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name.startswith("_"):  # structlog's own, which it takes out
            continue
        if name == "exception":
            event[name] = "\n".join(_plain(line) for line in str(value).splitlines())
        elif name in _OURS:
            event[name] = _printable(value) if isinstance(value, str) else value
        elif not isinstance(value, (int, float, bool)) and value is not None:
            event[name] = _plain(str(value))
    return event


def _for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Write the time, the level, what happened, and what is known of it."""
    when, level, said = event.pop("timestamp"), event.pop("level"), event.pop("event")
    event.pop("logger", None)
    exception = event.pop("exception", None)
    known = " ".join(f"{name}={_quoted(value)}" for name, value in event.items())
    line = f"{when} {level:<7} {said}" + (f"  {known}" if known else "")
    return line if exception is None else "\n".join([line, *_indented(exception)])


def _quoted(value: Any) -> str:
    """Write a value so that it is seen where it ends."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[\s"=]', text) else text


def _indented(text: str) -> Iterator[str]:
    return (f"  | {line}" for line in text.split("\n"))


def formatter(form: Literal["json", "text"]) -> logging.Formatter:
    """Return what makes a line of a record."""
    shared: list[Processor] = [
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
        _head,
        _mask,
    ]
    render: Processor = structlog.processors.JSONRenderer() if form == "json" else _for_people
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        use_get_message=True,
    )


# --- the queue and its thread ---


class Log(logging.Handler):
    """Takes records from anywhere, and writes them in a thread. ``dropped`` had no room."""

    def __init__(self, stream: TextIO, form: Literal["json", "text"]) -> None:
        super().__init__()
        self._stream = stream
        self.formatter = formatter(form)
        self._waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self.dropped = 0

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record. Nothing waits here, not even for a lock."""
        if self._waiting.qsize() >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.put(record)
        return True

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, unless nobody reads it."""
        self._waiting.put(None)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._stream.write(f"{self.format(record)}\n")
                if self._waiting.empty():
                    self._stream.flush()
            except Exception:  # noqa: BLE001 - a line that cannot be written must not end the log
                self.dropped += 1


@contextmanager
def logging_to(stream: TextIO | None, form: Format, level: str) -> Iterator[Log]:
    """Send all that is logged to the stream (standard error, if None), in lines of the form.

    ``auto`` is for people on a terminal, and JSON everywhere else. Libraries are heard from
    ``warning`` on.
    """
    stream = stream or sys.stderr
    if form == "auto":
        form = "text" if stream.isatty() else "json"
    handler = Log(stream, form)
    root, ours = logging.getLogger(), logging.getLogger("operator_api")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    handler.start()
    try:
        yield handler
    finally:
        root.handlers[:], root.level, ours.level = before
        handler.stop()


# --- requests ---


class RequestLines:
    """A line for each request that failed: errors of ours, and at ``info`` those of callers.

    At ``debug`` there is one for each other request too. Of each kind there are so many a second,
    and the rest is counted.
    """

    def __init__(self) -> None:
        self._levels = {
            kind: level
            for kind, level in {5: logging.ERROR, 4: logging.INFO}.items()
            if log.isEnabledFor(level)
        }
        if log.isEnabledFor(logging.DEBUG):
            self._levels |= dict.fromkeys((1, 2, 3), logging.DEBUG)
        self._second = 0
        self._left = dict.fromkeys(self._levels, LINES_PER_SECOND)
        self._unsaid = 0
        self.left_out = 0

    def say(self, exchange: Exchange, response: Response, nanoseconds: int) -> None:
        """Write the request's line, if it is to have one."""
        kind = response.status // 100
        level = self._levels.get(kind)
        if level is None:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._begin(second)
        if self._left[kind] <= 0:
            self._unsaid += 1
            self.left_out += 1
            return
        self._left[kind] -= 1
        operation, token = exchange.operation, exchange.bearer
        failed, problem = response.status >= 400, exchange.problem
        if exchange.simulated or (problem is not None and problem.kind is SHUTTING_DOWN):
            level = logging.INFO  # nothing is wrong
        log.log(
            level,
            "request failed" if failed else "request",
            extra={
                "http_method": exchange.method,
                "http_route": None if operation is None else operation.path,
                "status": response.status,
                "reason": reason_of(exchange, response) if failed else None,
                "outcome": None if problem is None else problem.outcome,
                "simulated": True if exchange.simulated else None,
                "duration_ms": round(nanoseconds / 1e6, 3),
                "token_id": None if token is None else token.id,
                **exchange.traced,
            },
        )

    def _begin(self, second: int) -> None:
        self._second = second
        self._left = dict.fromkeys(self._levels, LINES_PER_SECOND)
        if self._unsaid:
            log.info("requests left out of the log", extra={"count": self._unsaid})
            self._unsaid = 0
