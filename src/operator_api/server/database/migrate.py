"""Bring a store's schema to this program's version, by Alembic."""

import fcntl
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import Engine

from operator_api.server.database.engine import UnknownSchemaError

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(path: Path) -> None:
    """Create or upgrade the SQLite file. Two processes at once, or a killed one, do no harm.

    A store that a newer program has upgraded is left as it is: UnknownSchemaError.
    """
    with path.with_name(f"{path.name}.migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = _engine(path)
        try:
            _require_known(engine, path)
            with engine.connect() as connection:
                _run(connection)
        finally:
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


def _require_known(engine: Engine, path: Path) -> None:
    scripts = ScriptDirectory.from_config(_config())
    known = [script.revision for script in scripts.walk_revisions()]
    with engine.connect() as connection:
        stored = MigrationContext.configure(connection).get_current_revision()
        if stored is None and inspect(connection).get_table_names():
            raise UnknownSchemaError(
                f"{path} is the database of another program. Name a file of our own, or a new one."
            )
    if stored is not None and stored not in known:
        raise UnknownSchemaError(
            f"The store {path} has the schema {stored}, and this program knows none after"
            f" {known[0]}: a newer one has used it. Run that one, or restore an older backup."
        )


def _run(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
