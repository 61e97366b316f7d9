"""Bring a store's schema to this program's version, by Alembic."""

import fcntl
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(path: Path) -> None:
    """Create or upgrade the SQLite file. Two processes at once, or a killed one, do no harm."""
    with open(path.with_name(f"{path.name}.migrating"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = _engine(path)
        with engine.connect() as connection:
            _run(connection)
        engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _on_connect(connection: object, _record: object) -> None:
        # SQLAlchemy begins transactions; the driver must not, or DDL would escape them.
        connection.isolation_level = None  # type: ignore[attr-defined] # a DBAPI connection

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
