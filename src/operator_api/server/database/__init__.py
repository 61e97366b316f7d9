"""The store: reads, and writes as values, on one of two engines."""

from operator_api.server.database.engine import (
    Database,
    GuardFailed,
    Row,
    Statement,
    UnknownSchemaError,
    Write,
)

__all__ = ["Database", "GuardFailed", "Row", "Statement", "UnknownSchemaError", "Write"]
