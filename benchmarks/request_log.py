"""Measure what the request log costs: the same server with it and without it, in turns.

``python -m benchmarks.request_log [--rounds 5] [--seconds 4]``. Takes what ``benchmarks.run``
takes, and measures as it does: throughput is what ``wrk`` counted with the server on one core, and
processor time what the kernel charged to the whole server, the log's thread included. The order of
the two changes with each round. The cost is the share of the throughput, or of the time, that is
lost to the log: medians over the rounds of the ratio of two neighbours. Details are sealed as far
as their share of the processor goes, which such a load uses up: what was saved of it before counts
for less the longer a measurement takes. Rows are kept of all requests, or the last line says how
many were dropped.
"""

import argparse
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import orjson

from benchmarks.run import SERVER_CORE, UNLIMITED, Case, Process, cases, create_user, measure


@contextmanager
def serving(data: Path, log: str) -> Iterator[tuple[Process, str]]:
    """Run our server with the log on or off; what it says goes to a file beside its data."""
    command = [sys.executable, "-m", "operator_api.cli", "serve", "--port", "0", "--json"]
    limits = {"OPERATOR_RATE_LIMIT": UNLIMITED, "OPERATOR_FAILED_AUTHENTICATION_LIMIT": UNLIMITED}
    with Path(f"{data}.txt").open("w") as said:
        process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command, "--data", str(data)],
            env={**os.environ, **limits, "OPERATOR_REQUEST_LOG": log},
            stdout=subprocess.PIPE,
            stderr=said,
        )
        try:
            assert process.stdout is not None
            ready = orjson.loads(process.stdout.readline())
            yield Process(ready["url"], process.pid), ready["token"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def kept(data: Path) -> tuple[int, int, int]:
    """Return how many rows and details are in a stopped server's log, and its bytes."""
    path = data / "requests.db"
    with closing(sqlite3.connect(path)) as log:
        sql = "SELECT (SELECT total(count) FROM batches) + (SELECT total(count) FROM segments)"
        rows = int(log.execute(sql).fetchone()[0])
        (details,) = log.execute("SELECT count(*) FROM details").fetchone()
        return rows, int(details), path.stat().st_size


def table(with_log: Sequence[Case], without: Sequence[Case]) -> str:
    """Return the medians of each case, and what the log costs it."""
    lines = [
        "| case | req/s, log off | log on | lost | processor µs, log off | log on | more |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for on, off in zip(with_log, without, strict=True):
        lost = 1 - statistics.median(a / b for a, b in zip(on.rates, off.rates, strict=True))
        more = statistics.median(a / b for a, b in zip(on.costs, off.costs, strict=True)) - 1
        median = statistics.median
        lines.append(
            f"| {on.name} | {median(off.rates):,.0f} | {median(on.rates):,.0f} | {lost:.1%}"
            f" | {median(off.costs):.1f} | {median(on.costs):.1f} | {more:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table and what was kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is measured")
    parser.add_argument("--seconds", type=int, default=4, help="how long each measurement takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ExitStack() as stack:
            sides = []
            for log in ("on", "off"):
                process, token = stack.enter_context(serving(folder / log, log))
                measured = cases(token, create_user(process, token))
                sides.append((process, measured))
            for number in range(options.rounds):
                for case in range(len(sides[0][1])):
                    for process, measured in sides if number % 2 else reversed(sides):
                        measure(measured[case], process, folder, options.seconds)
        print(table(sides[0][1], sides[1][1]))
        rows, details, size = kept(folder / "on")
        dropped = re.findall(r"dropped (\d+) rows", (folder / "on.txt").read_text())
        print(
            f"\nkept: {rows:,} rows and {details:,} details in {size / 1e6:,.0f} MB;"
            f" dropped: {sum(map(int, dropped)):,} rows"
        )


if __name__ == "__main__":
    main()
