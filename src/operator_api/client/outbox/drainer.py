"""Sends what is in the outbox, from a thread of its own, for both kinds of client.

The thread takes turns with the file: in one transaction it writes down what became of the writes
that came back, renews the leases of those on their way, and claims as many more as may leave. Each
write is sent by a thread that ends with it. What is decided is decided in ``drain_policy.py``.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import random as uniform
from typing import Any
from weakref import WeakSet

from operator_api.client.errors import OutboxError
from operator_api.client.outbox.drain_policy import MOST_AT_ONCE, Course, Settled, judge
from operator_api.client.outbox.leases import new_owner
from operator_api.client.outbox.rows import Claimed
from operator_api.client.outbox.store import OutboxStore

log = logging.getLogger("operator_api.client")

HEARTBEAT_SECONDS = 1.0
"""How often leases are renewed."""
IDLE_SECONDS = 2.0
"""How often the file is looked at for what other processes have left behind."""
GRACE_SECONDS = 2.0
"""How long what is on its way may take to finish, when the client is closed."""

Sleep = Callable[[float], None]
SendClaimed = Callable[[Claimed, bool, Sleep], Any]
"""Send a claimed write, and raise if it fails. The flag: whether the server has answered before."""


class Stopped(Exception):
    """The drainer was stopped while a write waited for its turn."""


class Drainer:
    """Drains one outbox to one server. It works from ``start`` to ``stop``."""

    def __init__(
        self,
        store: OutboxStore,
        base_url: str,
        send: SendClaimed,
        *,
        random: Callable[[], float] = uniform,
    ) -> None:
        self._store = store
        self._base_url = base_url
        self._send = send
        self._random = random
        self.renew()
        _drainers.add(self)

    def renew(self) -> None:
        """Begin anew, as in a forked process: its parent's threads and leases are not its own."""
        self._owner = new_owner()
        self._course = Course(self._random)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._turned = threading.Condition()
        self._finished: deque[tuple[Claimed, Exception | None]] = deque()
        self._unwritten: list[Settled] = []
        self._on_their_way: set[int] = set()
        self._warned = ""

    def start(self) -> None:
        """Start the thread if it does not run, and let it look for what is to be sent."""
        self._wake.set()
        if self._thread is not None or self._stop.is_set():
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                self._thread.start()

    def hurry(self) -> None:
        """Look again at once, whatever was to be waited for, and try what is due."""
        self._course.hurry()
        self.start()

    def wait_for_turn(self, seconds: float) -> None:
        """Wait until something may have changed, so many seconds at most."""
        with self._turned:
            self._turned.wait(seconds)

    def stop(self) -> None:
        """Stop. What is on its way has a moment to finish; the rest is free for other drainers."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(GRACE_SECONDS + 1.0)

    # --- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._turn()
                self._warned = ""
            except Exception as error:  # noqa: BLE001 - it must go on, or nothing is ever sent
                self._warn(error)
                pause = HEARTBEAT_SECONDS
            with self._turned:
                self._turned.notify_all()
            self._wake.wait(pause)
            self._wake.clear()
        self._finish()

    def _warn(self, error: Exception) -> None:
        text = str(error) if isinstance(error, OutboxError) else type(error).__name__
        if text != self._warned:
            log.warning("The outbox is not drained: %s", text)
        self._warned = text

    def _turn(self) -> float:
        """Take a turn with the file; return how many seconds the next one can wait."""
        self._collect()
        now = time.monotonic()
        room = self._course.room(len(self._on_their_way), now)
        claimed, due = self._store.turn(self._owner, self._base_url, self._unwritten, room)
        self._unwritten.clear()
        for each in claimed:
            self._on_their_way.add(each.sequence)
            worker = threading.Thread(
                target=self._work, args=(each,), name=f"outbox-{each.sequence}", daemon=True
            )
            try:
                worker.start()
            except RuntimeError as error:  # the system gives no more threads
                self._finished.append((each, error))
        longest = HEARTBEAT_SECONDS if self._on_their_way else IDLE_SECONDS
        waits_for_others = len(self._on_their_way) >= (MOST_AT_ONCE if self._course.is_open else 1)
        if due is None or waits_for_others:
            return longest
        return min(longest, max(due, self._course.wait(now), 0.01))

    def _collect(self) -> None:
        """Judge what has come back."""
        while self._finished:
            claimed, error = self._finished.popleft()
            judged = judge(error, tries=claimed.tries, earlier=claimed.earlier, random=self._random)
            if not isinstance(error, OutboxError):
                self._course.learn(judged, time.monotonic())
            self._on_their_way.discard(claimed.sequence)
            self._unwritten.append(Settled(claimed.sequence, judged))

    def _finish(self) -> None:
        ends = time.monotonic() + GRACE_SECONDS
        while True:
            self._collect()
            left = ends - time.monotonic()
            if not self._on_their_way or left <= 0:
                break
            self._wake.wait(left)
            self._wake.clear()
        with suppress(OutboxError):  # the leases run out by themselves
            self._store.turn(self._owner, self._base_url, self._unwritten, 0)
            self._store.release(self._owner)

    # --- the threads that send

    def _work(self, claimed: Claimed) -> None:
        error: Exception | None = None
        try:
            self._send(claimed, self._course.proven, self._sleep)
        except BaseException as raised:  # noqa: BLE001 - a program's own function gives the token
            # Whatever it raises, SystemExit too, the write must not stay claimed for ever.
            error = raised if isinstance(raised, Exception) else RuntimeError("it ended the thread")
        if isinstance(error, Stopped):
            self._on_their_way.discard(claimed.sequence)
        else:
            self._finished.append((claimed, error))
        self._wake.set()

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped


_drainers: WeakSet[Drainer] = WeakSet()


def _renew_all() -> None:
    for drainer in list(_drainers):
        drainer.renew()


# A thread does not live on in a child, and a lock that it held would be held there for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
