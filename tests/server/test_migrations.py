"""The schema: made, upgraded, refused where it is unknown, and whole after every kill."""

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from operator_api.server.database import UnknownSchemaError, migrate
from operator_api.server.database.engine import SCHEMA_VERSION
from operator_api.server.database.migrate import upgrade
from operator_api.server.database.schema import metadata
from operator_api.server.database.sqlite import is_current
from tests.servers import Server, running
from tests.stores import FILE, query

UPGRADE = """
import sys
from pathlib import Path
from operator_api.server.database.migrate import upgrade
upgrade(Path(sys.argv[1]))
"""
# Kills itself right after so many statements of the migration.
KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from operator_api.server.database.migrate import upgrade

left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(*arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

upgrade(Path(sys.argv[1]))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


def schema_of(file: Path) -> set[str]:
    """What each table and index is, however it is spaced, and in whichever order its parts are."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
            " AND name NOT IN ('alembic_version', 'sqlite_stat1')"
        ).fetchall()
    return {" ".join(sorted(re.findall(r"\w+|\([\w, ]+\)", sql))) for (sql,) in rows}


def test_the_migrations_make_the_schema(file: Path) -> None:
    upgrade(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_migrations_make_what_alembic_does_not_compare(file: Path, tmp_path: Path) -> None:
    # WITHOUT ROWID, ON DELETE CASCADE: read off the statements themselves.
    upgrade(file)
    declared = tmp_path / "declared"
    engine = create_engine(f"sqlite:///{declared}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema_of(file) == schema_of(declared)
    assert any("CASCADE" in statement for statement in schema_of(file))
    assert any("ROWID" in statement for statement in schema_of(file))


def test_the_program_knows_the_newest_migration(file: Path) -> None:
    scripts = ScriptDirectory(str(migrate._MIGRATIONS))
    assert scripts.get_heads() == [SCHEMA_VERSION]
    assert not is_current(file)
    upgrade(file)
    assert is_current(file)


def test_a_second_upgrade_changes_nothing(file: Path) -> None:
    upgrade(file)
    insert_account(file)
    before = file.read_bytes()
    upgrade(file)
    assert file.read_bytes() == before


def insert_account(file: Path) -> None:
    query(file.parent, "INSERT INTO accounts (id, name, created_at) VALUES ('acc', 'kept', 1)")


def test_processes_that_upgrade_at_once_do_no_harm(file: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, str(file)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert is_current(file)
    assert query(file.parent, "SELECT version_num FROM alembic_version") == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize("statements", [1, 2, 4, 8, 16])
def test_a_killed_migration_leaves_nothing_and_can_be_repeated(
    file: Path, tmp_path: Path, statements: int
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file), str(statements)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not is_current(file)
    upgrade(file)
    assert is_current(file)
    whole = tmp_path / "whole"
    upgrade(whole)
    assert schema_of(file) == schema_of(whole)


def test_a_schema_that_the_program_does_not_know_is_refused(file: Path) -> None:
    upgrade(file)
    insert_account(file)
    query(file.parent, "UPDATE alembic_version SET version_num = :version", version="9999")
    with pytest.raises(UnknownSchemaError) as raised:
        upgrade(file)
    assert str(raised.value) == (
        f"The store {file} has the schema 9999, and this program knows none after"
        f" {SCHEMA_VERSION}: a newer one has used it. Run that one, or restore an older backup."
    )


def test_a_server_refuses_a_store_of_a_newer_program_and_leaves_it_as_it_is(data: Path) -> None:
    with running(data) as server:
        server.stop()
    query(data, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(AssertionError) as raised:
        Server(data).start()
    said = " ".join(str(raised.value).split())  # the command line may wrap it
    assert "has the schema 9999, and this program knows none after" in said
    assert query(data, "SELECT version_num FROM alembic_version") == [("9999",)]
    assert query(data, "SELECT name FROM accounts") == [("default",)]
    query(data, "UPDATE alembic_version SET version_num = :known", known=SCHEMA_VERSION)
    with running(data) as server:
        assert server.url
