"""No list of a large store reads more than it shows, whichever filter is set."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from operator_api.server import conversations, messages, tags, tokens, users
from operator_api.server.database.migrate import upgrade

LISTS = {
    "users": (users._LIST, users._FILTERS),
    "conversations": (conversations._LIST, conversations._FILTERS),
    "messages": (messages._LIST, messages._FILTERS),
    "tags": (tags._COUNTS, {}),
    "tokens": (tokens._LIST.replace("{status}", "{filters}"), {}),
}
CASES = [
    pytest.param(sql.replace("{filters}", f"AND {condition}" if condition else ""), id=name)
    for table, (sql, filters) in LISTS.items()
    for name, condition in [(table, ""), *((f"{table}.{each}", filters[each]) for each in filters)]
]
FILTERED = [
    ("users.email", "sqlite_autoindex_users_2"),
    ("users.phone", "users_by_phone"),
    ("users.tag", "user_tags_by_tag"),
    ("conversations.user_id", "conversations_by_user"),
    ("conversations.assignee", "conversations_by_assignee"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "operator.sqlite3"
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def plan(store: sqlite3.Connection, sql: str) -> list[str]:
    values = dict.fromkeys(re.findall(r":(\w+)", sql), "x")
    return [row[3] for row in store.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize("sql", CASES)
def test_no_list_scans_a_table(store: sqlite3.Connection, sql: str) -> None:
    steps = plan(store, sql)
    # The one scan there may be is of the page that was found, to put tags to it.
    assert not [step for step in steps if step.startswith("SCAN") and step != "SCAN u"]
    assert any("tenant=?" in step for step in steps)


@pytest.mark.parametrize(("case", "index"), FILTERED)
def test_a_filter_of_many_values_has_its_index(
    store: sqlite3.Connection, case: str, index: str
) -> None:
    table, _, name = case.partition(".")
    sql, filters = LISTS[table]
    assert any(index in step for step in plan(store, sql.format(filters=f"AND {filters[name]}")))
