"""Measure the client beside raw httpx2 calls to the same server, in the same run.

``python -m benchmarks.client [--rounds 15] [--calls 200]``. The server runs on the first core, the
callers on the second. Each round makes every kind of call in turn; the table shows medians over the
rounds of the processor time that a call takes its program. The raw call does what a program without
a client would: it sends the token and JSON, checks the status and reads the answer's JSON.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.run import LOAD_CORE, create_user, ours
from operator_api import AsyncOperatorAI, OperatorAI

Call = Callable[[], Any]
NAME = "Ada Lovelace"
AsyncCall = Callable[[], Awaitable[Any]]


def checked(response: httpx2.Response, status: int) -> Any:
    """Return the answer, as a careful program reads it."""
    if response.status_code != status:
        raise SystemExit(f"{response.status_code}: {response.text}")
    return response.json()


def new_email(numbers: "count[int]") -> str:
    """Return an email that no user has yet."""
    return f"u{next(numbers)}@example.com"


def sync_calls(
    raw: httpx2.Client, client: OperatorAI, user_id: str, numbers: "count[int]"
) -> dict[str, tuple[Call, Call]]:
    """Return each kind of call, raw and by the client."""
    path = f"/v1/users/{user_id}"
    return {
        "read a user": (
            lambda: checked(raw.get(path), 200),
            lambda: client.users.get(user_id),
        ),
        "create a user": (
            lambda: checked(
                raw.post("/v1/users", json={"email": new_email(numbers), "name": NAME}), 201
            ),
            lambda: client.users.create(email=new_email(numbers), name=NAME),
        ),
    }


def async_calls(
    raw: httpx2.AsyncClient, client: AsyncOperatorAI, user_id: str, numbers: "count[int]"
) -> dict[str, tuple[AsyncCall, AsyncCall]]:
    """Return each kind of call, raw and by the client."""
    path = f"/v1/users/{user_id}"

    async def raw_get() -> Any:
        return checked(await raw.get(path), 200)

    async def raw_create() -> Any:
        return checked(
            await raw.post("/v1/users", json={"email": new_email(numbers), "name": NAME}), 201
        )

    return {
        "read a user, async": (raw_get, lambda: client.users.get(user_id)),
        "create a user, async": (
            raw_create,
            lambda: client.users.create(email=new_email(numbers), name=NAME),
        ),
    }


def cost(call: Call, calls: int) -> float:
    """Return the microseconds of processor time that one call takes."""
    before = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - before) / calls * 1e6


async def async_cost(call: AsyncCall, calls: int) -> float:
    """Return the microseconds of processor time that one call takes."""
    before = time.process_time()
    for _ in range(calls):
        await call()
    return (time.process_time() - before) / calls * 1e6


def table(costs: dict[str, list[tuple[float, float]]]) -> str:
    """Return medians, and the median of each round's ratio."""
    lines = ["| call | raw httpx2, µs | client, µs | ratio |", "| --- | ---: | ---: | ---: |"]
    for name, pairs in costs.items():
        raw, ours_ = (statistics.median(each) for each in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for theirs, mine in pairs)
        lines.append(f"| {name} | {raw:.0f} | {ours_:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


async def measure(url: str, token: str, user_id: str, rounds: int, calls: int) -> str:
    """Make all calls in turn, and return the table."""
    headers, numbers = {"Authorization": f"Bearer {token}"}, count()
    raw = httpx2.Client(base_url=url, headers=headers, timeout=15)
    async_raw = httpx2.AsyncClient(base_url=url, headers=headers, timeout=15)
    client = OperatorAI(base_url=url, api_key=token)
    async_client = AsyncOperatorAI(base_url=url, api_key=token)
    pairs = sync_calls(raw, client, user_id, numbers)
    async_pairs = async_calls(async_raw, async_client, user_id, numbers)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in (*pairs, *async_pairs)}
    for turn in range(rounds + 1):
        for name, (theirs, mine) in pairs.items():
            costs[name].append((cost(theirs, calls), cost(mine, calls)))
        for name, (theirs_, mine_) in async_pairs.items():
            costs[name].append((await async_cost(theirs_, calls), await async_cost(mine_, calls)))
        if turn == 0:  # the first is for caches and connections
            costs = {name: [] for name in costs}
    raw.close()
    client.close()
    await async_raw.aclose()
    await async_client.close()
    return table(costs)


def import_seconds(names: str = "from operator_api import OperatorAI") -> float:
    """Return the median of how long an import takes a new process."""
    script = f"from time import perf_counter as now; t = now(); {names}; print(now() - t)"
    runs = [subprocess.check_output([sys.executable, "-c", script]) for _ in range(11)]
    return statistics.median(map(float, runs))


def peer_seconds() -> float:
    """Return the same of the libraries that the client stands on."""
    return import_seconds("import pydantic, httpx2, httpcore2, anyio")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured")
    parser.add_argument("--calls", type=int, default=200, help="how many calls a measurement makes")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        process, token = stack.enter_context(ours(folder / "data"))
        user_id = create_user(process, token)
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        print(asyncio.run(measure(process.url, token, user_id, options.rounds, options.calls)))
    print(f"\nimport: {import_seconds():.3f} s (pydantic and httpx2 alone: {peer_seconds():.3f} s)")


if __name__ == "__main__":
    main()
