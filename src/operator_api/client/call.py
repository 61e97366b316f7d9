"""A call as a value: which operation, with what. Nothing is sent by making one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, TypedDict, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Omit(Enum):
    """The type of OMIT."""

    OMIT = "omit"

    def __repr__(self) -> str:
        return "OMIT"


OMIT: Final = Omit.OMIT
"""An argument that was left out, where None says something else."""


class Options(TypedDict, total=False):
    """What every method takes besides its own arguments. Times are in seconds.

    ``timeout`` is for each attempt, ``deadline`` for all of them with the waits between.
    """

    timeout: float
    deadline: float
    max_retries: int
    extra_headers: Mapping[str, str]


class WriteOptions(Options, total=False):
    """``idempotency_key``: the same key and body are done at most once. One is made if need be."""

    idempotency_key: str


class ChangeOptions(WriteOptions, total=False):
    """``if_match``: entity tags, of which the record must still have one; or ``*``."""

    if_match: str


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One call of an operation of the table, by its name; T_co is the answer's model.

    ``ids`` are the path's variables, ``params`` the query's, ``body`` the fields that were given,
    and ``options`` those of the TypedDict that the method's signature names. Only the operation and
    the ids are shown in ``repr``.
    """

    operation: str
    ids: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were not left out."""
    return {name: value for name, value in arguments.items() if value is not OMIT}
