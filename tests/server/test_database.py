"""The embedded engine: what is written together, alone, not at all, and how it comes to an end."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from operator_api.contract.errors import Outcome, Problem
from operator_api.server.database import Statement, Write
from operator_api.server.database.engine import SCHEMA_VERSION
from operator_api.server.database.sqlite import SQLite, connect, require_durable
from tests.stores import FILE, query, write_lock

SCHEMA = f"""
CREATE TABLE notes (
    id TEXT PRIMARY KEY,
    text TEXT NOT NULL UNIQUE,
    parent TEXT REFERENCES notes (id)
);
CREATE TABLE alembic_version (version_num TEXT NOT NULL);
INSERT INTO alembic_version VALUES ('{SCHEMA_VERSION}');
"""
_INSERT = "INSERT INTO notes (id, text, parent) VALUES (:id, :text, :parent)"
_RENAME = "UPDATE notes SET text = :text WHERE id = :id"
COUNT = "SELECT count(*) AS notes FROM notes"


def note(name: str, *, text: str = "", parent: str | None = None) -> Statement:
    """Insert a note."""
    row = {"id": name, "text": text or f"text of {name}", "parent": parent}
    return Statement(_INSERT, row, must_touch=True)


def rename(name: str) -> Statement:
    """Change a note, which guards the write: it must be there."""
    return Statement(_RENAME, {"id": name, "text": f"new text of {name}"}, must_touch=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).touch()
    connection = connect(tmp_path / FILE)
    connection.executescript(SCHEMA)
    connection.close()
    return tmp_path


@asynccontextmanager
async def opened(
    folder: Path, *, busy_seconds: float = 30, max_waiting: int = 5000
) -> AsyncIterator[SQLite]:
    engine = SQLite(folder / FILE, busy_seconds=busy_seconds, max_waiting=max_waiting)
    try:
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[SQLite]:
    async with opened(folder) as engine:
        yield engine


def names(folder: Path) -> list[str]:
    """Return the notes in the order in which they were written, as another process sees them."""
    return [name for (name,) in query(folder, "SELECT id FROM notes ORDER BY rowid")]


async def together(writes: Iterable[Awaitable[None]]) -> list[str]:
    """Run writes at once; tell of each how it ended."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    return [ending(result) for result in results]


def ending(result: object) -> str:
    if isinstance(result, Problem):
        return result.kind.reason
    return "written" if result is None else type(result).__name__


async def assert_unavailable(
    doing: Awaitable[Any], outcome: Outcome = "not_executed", reason: str = "store_unavailable"
) -> None:
    with pytest.raises(Problem) as raised:
        await doing
    assert (raised.value.kind.reason, raised.value.outcome) == (reason, outcome)


async def turn() -> None:
    """Let the writer begin with what is waiting."""
    for _ in range(3):
        await asyncio.sleep(0)


def note_commits(engine: SQLite) -> list[str]:
    """Note every COMMIT that SQLite runs: with `synchronous=FULL` each is one fsync."""
    commits: list[str] = []
    engine._writer.set_trace_callback(lambda sql: commits.extend([sql] * (sql == "COMMIT")))
    return commits


# --- durability ---


def test_every_connection_is_durable(folder: Path) -> None:
    for read_only in (False, True):
        connection = connect(folder / FILE, read_only=read_only)
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        connection.close()


def test_a_file_that_cannot_be_durable_is_refused() -> None:
    memory = closing(sqlite3.connect(":memory:"))
    with memory as store, pytest.raises(OSError, match="made durable: journal='memory'"):
        require_durable(store, Path(":memory:"))


def test_a_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect(tmp_path / FILE)
    assert not (tmp_path / FILE).exists()


def test_a_reader_cannot_write(folder: Path) -> None:
    connection = connect(folder / FILE, read_only=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM notes")
    connection.close()


# --- groups ---


async def test_a_write_is_there_for_all_when_it_returns(engine: SQLite, folder: Path) -> None:
    await engine.write([note("a")])
    assert names(folder) == ["a"]
    assert await engine.fetch_one("SELECT id FROM notes", {}) is not None


async def test_writes_that_wait_share_a_commit(engine: SQLite, folder: Path) -> None:
    commits = note_commits(engine)
    assert set(await together(engine.write([note(str(n))]) for n in range(1000))) == {"written"}
    assert len(commits) <= 20, "each commit must carry at least 50 writes"
    assert names(folder) == [str(n) for n in range(1000)], "in the order in which they came"


async def test_a_write_that_comes_alone_is_committed_alone(engine: SQLite) -> None:
    commits = note_commits(engine)
    for name in ("a", "b", "c"):
        await engine.write([note(name)])
    assert len(commits) == 3


async def test_what_waits_for_the_lock_is_one_group(engine: SQLite, folder: Path) -> None:
    commits = note_commits(engine)
    with write_lock(folder):
        writes = [asyncio.ensure_future(engine.write([note(str(n))])) for n in range(100)]
        await turn()
        assert names(folder) == []
        assert not any(write.done() for write in writes)
    await asyncio.gather(*writes)
    assert len(commits) == 1


WRONG: dict[str, tuple[Write, str]] = {
    "a guard fails at once": ([rename("missing")], "GuardFailed"),
    "a guard fails late": ([note("x"), rename("missing")], "GuardFailed"),
    "unique": ([note("x"), note("y", text="text of first")], "GuardFailed"),
    "primary key": ([note("x"), note("first", text="other")], "GuardFailed"),
    "foreign key": ([note("x"), note("y", parent="missing")], "GuardFailed"),
    "not null": ([note("x"), Statement(_INSERT, {**note("y").parameters, "text": None})], ""),
    "no such table": ([note("x"), Statement("DELETE FROM missing", {})], "OperationalError"),
    "no such parameter": ([note("x"), Statement(_RENAME, {})], "ProgrammingError"),
    "no such type": ([note("x"), Statement(_RENAME, {"id": "x", "text": {}})], ""),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_write_that_fails_leaves_nothing_and_hurts_no_other(
    wrong: str, engine: SQLite, folder: Path
) -> None:
    commits = note_commits(engine)
    write, expected = WRONG[wrong]
    with write_lock(folder):  # so that the three are one group
        waiting = asyncio.ensure_future(
            together(
                [engine.write([note("first")]), engine.write(write), engine.write([note("last")])]
            )
        )
        await turn()
    first, failed, last = await waiting
    assert (first, last) == ("written", "written")
    assert failed == (expected or failed) != "written"
    assert names(folder) == ["first", "last"]
    assert len(commits) == 1
    await engine.write([note("x")])


async def test_a_group_of_failures_commits_nothing(engine: SQLite, folder: Path) -> None:
    commits = note_commits(engine)
    assert set(await together(engine.write([rename(str(n))]) for n in range(10))) == {"GuardFailed"}
    assert commits == []
    await engine.write([note("after")])
    assert names(folder) == ["after"]


async def test_a_write_sees_those_before_it_in_its_group(engine: SQLite, folder: Path) -> None:
    endings = await together(
        engine.write(write)
        for write in ([note("a")], [note("b", parent="a")], [rename("a")], [note("a", text="2")])
    )
    assert endings == ["written", "written", "written", "GuardFailed"]


async def test_of_many_that_need_the_same_state_one_gets_it(engine: SQLite, folder: Path) -> None:
    await engine.write([note("a", text="0")])
    swap = "UPDATE notes SET text = :new WHERE id = 'a' AND text = '0'"
    endings = await together(
        engine.write([note(str(n)), Statement(swap, {"new": str(n)}, must_touch=True)])
        for n in range(1, 200)
    )
    assert sorted(endings) == ["GuardFailed"] * 198 + ["written"]
    assert len(names(folder)) == 2


async def test_bulk_writes_share_groups_with_others(engine: SQLite, folder: Path) -> None:
    many: list[Statement] = [note(f"bulk-{n}") for n in range(5000)]
    endings = await together(
        [engine.write([note("a")]), engine.write(many, bulk=True), engine.write([note("b")])]
    )
    assert endings == ["written"] * 3
    assert names(folder) == ["a", *(f"bulk-{n}" for n in range(5000)), "b"]


async def test_the_event_loop_goes_on_during_a_bulk_write(engine: SQLite) -> None:
    # The bulk write can only end once the loop has answered it from another thread's side.
    loop, answered = asyncio.get_running_loop(), threading.Event()
    engine._writer.create_function("wait", 0, lambda: answered.wait(30))
    bulk = asyncio.ensure_future(engine.write([Statement("SELECT wait()", {})], bulk=True))
    await turn()
    assert await engine.fetch_one(COUNT, {}) is not None
    loop.call_soon(answered.set)
    await bulk


async def test_a_caller_that_goes_away_before_the_commit_is_not_written(
    engine: SQLite, folder: Path
) -> None:
    with write_lock(folder):
        writes = [asyncio.ensure_future(engine.write([note(name)])) for name in "abc"]
        await turn()
        writes[1].cancel()
        await turn()
    await asyncio.gather(writes[0], writes[2])
    assert names(folder) == ["a", "c"]


async def test_two_engines_on_one_file_take_turns(engine: SQLite, folder: Path) -> None:
    async with opened(folder) as other:
        endings = await together(
            (engine, other)[n % 2].write([note(str(n)), rename(str(n))]) for n in range(500)
        )
        assert set(endings) == {"written"}
        for each in (engine, other):
            row = await each.fetch_one(COUNT, {})
            assert row is not None
            assert row["notes"] == 500


# --- reads ---


async def test_the_three_ways_to_read(engine: SQLite) -> None:
    assert await engine.fetch_one("SELECT id FROM notes", {}) is None
    assert list(await engine.fetch_few("SELECT id FROM notes", {})) == []
    await engine.write([note("a"), note("b")])
    for read in (engine.fetch_few, engine.scan):
        rows = await read("SELECT id FROM notes WHERE id <> :id ORDER BY id", {"id": "a"})
        assert [row["id"] for row in rows] == ["b"]


async def test_many_scans_at_once(engine: SQLite) -> None:
    await engine.write([note(str(n)) for n in range(100)])
    scans = await asyncio.gather(*(engine.scan(COUNT, {}) for _ in range(50)))
    assert {rows[0]["notes"] for rows in scans} == {100}


async def test_a_read_sees_every_write_that_has_returned(engine: SQLite) -> None:
    for written in range(1, 100):
        await engine.write([note(str(written))])
        one = await engine.fetch_one(COUNT, {})
        assert one is not None
        assert one["notes"] == written
        assert (await engine.scan(COUNT, {}))[0]["notes"] == written


async def test_a_defect_of_ours_in_a_read_is_not_called_a_store_that_is_unavailable(
    engine: SQLite,
) -> None:
    for read in (engine.fetch_one, engine.fetch_few, engine.scan):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await read("SELECT * FROM missing", {})
        with pytest.raises(sqlite3.ProgrammingError):
            await read("SELECT :missing", {})


async def test_check_wants_the_schema_of_this_program(engine: SQLite, folder: Path) -> None:
    await engine.check()
    query(folder, "UPDATE alembic_version SET version_num = '9999'")
    await asyncio.sleep(0.2)  # a snapshot of what was there before may be shared for a moment
    await assert_unavailable(engine.check())


# --- busy, overloaded, full ---


async def test_a_lock_that_is_held_too_long_is_503_and_passes(folder: Path) -> None:
    async with opened(folder, busy_seconds=0.05) as engine:
        with write_lock(folder):
            await assert_unavailable(engine.write([note("a")]))
            assert await engine.fetch_one(COUNT, {}) is not None
            assert len(await engine.scan(COUNT, {})) == 1
        await engine.write([note("b")])
    assert names(folder) == ["b"]


async def test_more_writes_than_may_wait_are_refused_and_the_others_are_not(folder: Path) -> None:
    async with opened(folder, max_waiting=5) as engine:
        with write_lock(folder):
            begun = asyncio.ensure_future(engine.write([note("begun")]))
            await turn()
            waiting = [asyncio.ensure_future(engine.write([note(str(n))])) for n in range(5)]
            await turn()
            await assert_unavailable(engine.write([note("refused")]), reason="overloaded")
        await asyncio.gather(begun, *waiting)
        await engine.write([note("after")])
    assert names(folder) == ["begun", "0", "1", "2", "3", "4", "after"]


async def test_a_full_store_is_503_with_nothing_half_written_and_passes(
    engine: SQLite, folder: Path
) -> None:
    await engine.write([note("before")])
    pages = engine._writer.execute("PRAGMA page_count").fetchone()[0]
    engine._writer.execute(f"PRAGMA max_page_count={pages}")
    large = [note("small"), note("large", text="x" * 100_000)]
    await assert_unavailable(engine.write(large))
    assert names(folder) == ["before"]
    engine._writer.execute("PRAGMA max_page_count=1000000")
    await engine.write(large)
    assert names(folder) == ["before", "small", "large"]


async def test_a_full_store_fails_at_most_the_group(engine: SQLite, folder: Path) -> None:
    pages = engine._writer.execute("PRAGMA page_count").fetchone()[0]
    engine._writer.execute(f"PRAGMA max_page_count={pages}")
    endings = await together(
        engine.write([note(name, text=name * size)])
        for name, size in [("a", 1), ("b", 100_000), ("c", 1)]
    )
    assert endings[1] == "store_unavailable"
    assert set(endings) <= {"written", "store_unavailable"}
    written = [name for name, ended in zip("abc", endings, strict=True) if ended == "written"]
    assert names(folder) == written


async def test_a_writer_that_has_broken_down_answers_and_recovers(
    engine: SQLite, folder: Path
) -> None:
    engine._writer.close()
    assert await together([engine.write([note("a")])]) != ["written"]
    await engine.write([note("b")])
    assert names(folder) == ["b"]


# --- the end ---


async def test_refuse_lets_what_has_begun_finish(folder: Path) -> None:
    async with opened(folder) as engine:
        begun = asyncio.ensure_future(engine.write([note("begun")]))
        await turn()
        waiting = asyncio.ensure_future(engine.write([note("waiting")]))
        await turn()
        engine.refuse()
        await begun
        await assert_unavailable(waiting, reason="shutting_down")
        await assert_unavailable(engine.write([note("late")]), reason="shutting_down")
        assert await engine.fetch_one(COUNT, {}) is not None
    assert names(folder) == ["begun"]


async def test_close_does_not_wait_for_a_lock(folder: Path) -> None:
    engine = SQLite(folder / FILE, busy_seconds=1000, max_waiting=10)
    with write_lock(folder):
        write = asyncio.ensure_future(engine.write([note("a")]))
        await turn()
        close = asyncio.ensure_future(engine.close())
        await assert_unavailable(write, reason="shutting_down")
        await close


def files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_close_leaves_one_file_with_everything_in_it(folder: Path) -> None:
    async with opened(folder) as engine:
        await asyncio.gather(*(engine.write([note(str(n))]) for n in range(300)))
        await engine.scan(COUNT, {})
    assert files(folder) == [FILE]
    assert len(names(folder)) == 300
