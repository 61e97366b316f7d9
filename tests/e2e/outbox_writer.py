"""A program that keeps messages in an outbox, to be killed while it does: run by the tests.

``python -m tests.e2e.outbox_writer kill …`` forks writers one after the other, and kills each with
SIGKILL at a random moment; ``… create …`` is one writer that creates users at a steady pace. What
was acknowledged is appended to a file, a line for each.
"""

import os
import random
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import operator_api.client.outbox.keeper
import operator_api.vault.keys  # noqa: F401 - before the forks, so that each writer begins at once
from operator_api import OperatorAI


def kill_writers(outbox: str, acknowledged: Path, conversations: Sequence[str], runs: int) -> None:
    """Fork so many writers, and kill each of them."""
    for run in range(runs):
        hears, tells = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                write(outbox, acknowledged, conversations, run, tells)
            finally:
                os._exit(1)  # it must not end by itself
        # One in four at any moment of its beginning, the others once they write and send.
        if run % 4:
            select.select([hears], [], [], 10)
        time.sleep(random.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(hears)
        os.close(tells)
        assert os.WIFSIGNALED(status), f"the writer of run {run} ended by itself"


def write(
    outbox: str, acknowledged: Path, conversations: Sequence[str], run: int, tells: int
) -> None:
    """Keep a few messages in each conversation, and wait to be killed."""
    client = OperatorAI(outbox=outbox)
    file = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    for number in range(3):
        for conversation in conversations:
            text = f"{run:04}.{number}"
            receipt = client.outbox.messages.create(
                conversation_id=conversation, message=text, type="agent"
            )
            line = f"{receipt.idempotency_key} {conversation} {text}\n"
            os.write(file, line.encode())
            os.write(tells, b".")
    time.sleep(60)


def create_users(outbox: str, acknowledged: Path, first: int, count: int, pause: float) -> None:
    """Create users at a steady pace, then wait until they are sent."""
    client = OperatorAI(outbox=outbox)
    file = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    for number in range(first, first + count):
        email = f"outbox{number}@example.com"
        receipt = client.outbox.users.create(email=email)
        os.write(file, f"{receipt.idempotency_key} {email}\n".encode())
        time.sleep(pause)
    client.outbox.drain(deadline=60)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "kill", outbox, acknowledged, runs, *conversations:
            kill_writers(outbox, Path(acknowledged), conversations, int(runs))
        case "create", outbox, acknowledged, first, count, pause:
            create_users(outbox, Path(acknowledged), int(first), int(count), float(pause))
