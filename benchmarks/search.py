"""Measure the search of the request log on a million rows: every filter, pair and some triples.

``python -m benchmarks.search [--rows 1000000] [--repeat 3]``. The rows are made by a seed, as many
tokens of one tenant would have made them over 30 days, and written as the server writes them. Each
combination is asked several pages deep, by values that are frequent, rare, and in combinations that
each match many rows but together none. What is timed is ``Reader.search``, a page of 20, in a
process that does nothing else; pages after the first are asked by the id that a cursor holds.
"""

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from operator_api.contract.operations import OPERATIONS
from operator_api.server.requests.rows import Label, Row
from operator_api.server.requests.search import Query, Reader
from operator_api.server.requests.store import Store

TENANT = 7
DAYS = 30
PAGES = 3
SEED = 20_260_101
END = 1_790_000_000 * 10**9

API = [each for each in OPERATIONS if each.path.startswith("/v1/") and not each.public]
# How often a request ends so, with its reason.
ENDS = [
    (0.80, None),
    (0.08, (422, "validation_failed")),
    (0.04, (404, "resource_not_found")),
    (0.03, (401, "revoked_token")),
    (0.02, (429, "rate_limited")),
    (0.015, (403, "insufficient_scope")),
    (0.01, (409, "already_exists")),
    (0.0049, (503, "overloaded")),
    (0.0001, (500, "internal_error")),
]


def hexadecimal(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"


class Traffic:
    """The rows, and the values that they are searched by."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.chance = chance = random.Random(SEED)
        self.tokens = [f"tok_{hexadecimal(chance, 32)}" for _ in range(60)]
        self.addresses = [f"10.{n // 250}.{n % 250}.7" for n in range(5000)]
        self.objects = [hexadecimal(chance, 32) for _ in range(20_000)]
        self.weights = [1 / (n + 1) for n in range(len(self.tokens))]
        self.address_weights = [*itertools.accumulate(1 / (n + 1) for n in range(5000))]
        self.middle: Row = []

    def batches(self, store: Store) -> Iterator[list[Row]]:
        """Yield the rows in the order of their ends, a little out of the order of their ids."""
        chance, step = self.chance, DAYS * 86_400 * 10**9 // self.rows
        batch: list[Row] = []
        weights = [weight for weight, _ in ENDS]
        for number in range(self.rows):
            late = 30 * 10**9 if chance.random() < 0.001 else 0
            began = END - (self.rows - number) * step - late
            operation = API[min(int(chance.paretovariate(0.7)), len(API)) - 1]
            (end,) = chance.choices(ENDS, weights)
            status, reason = end[1] or (operation.status, "")
            # Some clients are one machine with one token; so these two go together.
            (token,) = chance.choices(range(60), self.weights)
            address = (
                self.addresses[token]
                if token % 3 == 0
                else chance.choices(self.addresses, cum_weights=self.address_weights)[0]
            )
            label = Label(
                operation.method,
                operation.name,
                operation.path,
                reason,
                "not_executed" if reason else "executed",
            )
            row: Row = [
                f"{began:016x}{hexadecimal(chance, 16)}",
                store.label(TENANT, label),
                status,
                chance.randrange(300, 40_000),
                self.tokens[token],
                address,
                f"usr_{chance.choice(self.objects)}" if operation.ids else "",
                self.client_id(number, token),
                chance.choice([None, 0, 1]),
                "",
                hexadecimal(chance, 32) if operation.method == "POST" else "",
                hexadecimal(chance, 32) if operation.body else "",
            ]
            if number == self.rows // 2:
                self.middle = row
            batch.append(row)
            if len(batch) == 500:
                yield batch
                batch = []
        if batch:
            yield batch

    def client_id(self, number: int, token: int) -> str:
        """Return none, one that a client sends always, or one of its own for each request."""
        if token % 4 == 0:
            return "my-service" if token % 8 == 0 else ""
        return f"job-{number:07d}"

    def filters(self) -> Mapping[str, list[Any]]:
        """Return for each filter: a frequent value, a rare one, and one that nothing has."""
        middle_at = int(self.middle[0][:16], 16) // 1000
        day = 86_400 * 10**6
        return {
            "status": [200, 500, 418],
            "class": [4, 5, 3],
            "reason": ["validation_failed", "internal_error", "unknown_endpoint"],
            "operation": [API[0].name, API[-1].name, "tokens.nothing"],
            "token": [self.tokens[0], self.tokens[59], f"tok_{'0' * 32}"],
            "address": [self.addresses[0], self.addresses[4999], "192.0.2.1"],
            "client id": ["my-service", f"job-{self.rows // 2 + 1:07d}", "none-has-it"],
            "after": [middle_at - 10 * day, END // 1000 - day // 24, END // 1000],
            "before": [middle_at, END // 1000 - (DAYS - 1) * day, 0],
            "text": ["users", f"usr_{self.objects[0]}", "internal_error usr"],
        }


FIELDS = {
    "status": "status",
    "class": "status_class",
    "reason": "reason",
    "operation": "operation",
    "token": "token_id",
    "address": "address",
    "client id": "client_request_id",
    "after": "after",
    "before": "before",
    "text": "words",
}


def query(**filters: Any) -> Query:
    """Return the query of filters by their names in the table."""
    given = {
        FIELDS[name]: value.split() if name == "text" else value for name, value in filters.items()
    }
    return Query(tenant=TENANT, most=21, **given)


def timed(reader: Reader, asked: Query) -> tuple[float, int, Query | None]:
    """Return the milliseconds, how many were found, and the query of the next page."""
    began = time.perf_counter()
    found = reader.search(asked)
    took = (time.perf_counter() - began) * 1000
    following = replace(asked, upto=found[19].id) if len(found) > 20 else None
    return took, len(found), following


def percentile(times: list[float], of: float) -> float:
    return sorted(times)[min(int(len(times) * of), len(times) - 1)]


def combinations(filters: Mapping[str, list[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every filter, every pair, and a sample of triples, with all of their values."""
    chance = random.Random(SEED)
    yield "none", {}
    for size, called in ((1, "one filter"), (2, "pairs"), (3, "triples")):
        for names in itertools.combinations(filters, size):
            chosen = list(itertools.product(*(filters[name] for name in names)))
            for values in chosen if size < 3 else chance.sample(chosen, 4):
                yield called, dict(zip(names, values, strict=True))


def measure(reader: Reader, filters: Mapping[str, list[Any]], repeat: int) -> None:
    """Ask every combination, and print the tables."""
    by_class: dict[str, list[float]] = defaultdict(list)
    worst: list[tuple[float, int, str]] = []
    for called, chosen in combinations(filters):
        for _ in range(repeat):
            asked: Query | None = query(**chosen)
            for page in range(PAGES):
                if asked is None:
                    break
                took, found, asked = timed(reader, asked)
                by_class[called].append(took)
                if called == "one filter":
                    by_class[f"— {next(iter(chosen))}"].append(took)
                words = ", ".join(f"{name}={str(value)[:14]}" for name, value in chosen.items())
                worst.append((took, found, f"page {page + 1}: {words}"))
    print(
        "| filters | searches | p50 ms | p95 ms | worst ms |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for called, times in by_class.items():
        print(
            f"| {called} | {len(times):,} | {statistics.median(times):.1f}"
            f" | {percentile(times, 0.95):.1f} | {max(times):.1f} |"
        )
    print("\n| the slowest | ms | found |\n| --- | ---: | ---: |")
    for took, found, words in sorted(worst, reverse=True)[:8]:
        print(f"| {words} | {took:.1f} | {found} |")


def main() -> None:
    """Make the rows, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many rows are searched")
    parser.add_argument("--repeat", type=int, default=3, help="how often each search is asked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.db"
        traffic, spent = Traffic(options.rows), 0.0
        with closing(Store(path)) as store:
            for batch in traffic.batches(store):
                began = time.process_time()
                store.append({TENANT: batch}, [])
                while store.fold(int(batch[-1][0][:16], 16)):
                    pass
                spent += time.process_time() - began
        print(
            f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB,"
            f" {spent / options.rows * 1e6:.1f} µs of the processor to write a row\n"
        )
        with closing(Reader(path)) as reader:
            measure(reader, traffic.filters(), options.repeat)


if __name__ == "__main__":
    main()
