"""What an operation takes, read from the table and its models, and given as ``field=value`` words.

This module imports the contract's models; the command imports it when it runs.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from operator_api.cli.problems import PROGRAM, Failure, usage
from operator_api.contract.errors import Place
from operator_api.contract.operations import BY_NAME, Operation
from operator_api.contract.suggest import nearest

_WORD = re.compile(r"(?P<name>[^=]*?)(?P<kind>:?=)(?P<value>.*)", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_STDIN = "-"


@dataclass(frozen=True)
class Field:
    """One thing an operation takes. ``schema`` is its JSON Schema, as its model gives it."""

    name: str
    place: Place
    required: bool
    schema: Mapping[str, Any]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The JSON types that it may be of."""
        return _kinds(self.schema)

    @property
    def type(self) -> str:
        """Its type in words: ``text``, ``integer``, ``open|closed``, ``list of text``, ``or null``.

        The values of a long enumeration are left to the error that names them.
        """
        words = [_word(each) for each in _choices(self.schema) if each.get("type") != "null"]
        words += ["null"] * ("null" in self.kinds)
        return " or ".join(words)

    def read(self, text: str) -> Any:
        """Return text as a value of the field's type; as it is where it is of none.

        What is wrong with it is then said by whoever validates the request.
        """
        return _typed(self.kinds, text)

    def read_item(self, text: str) -> Any:
        """Return text as an item of the list that the field is."""
        lists = (each for each in _choices(self.schema) if each.get("type") == "array")
        return _typed(_kinds(next(lists).get("items", {})), text)

    def __str__(self) -> str:
        needed = ", required" if self.required else ""
        return f"{self.name} ({self.place}, {self.type}{needed})"


def _choices(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    choices: Sequence[Mapping[str, Any]] = schema.get("anyOf") or [schema]
    return choices


def _kinds(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(each.get("type", "any") for each in _choices(schema))


def _word(schema: Mapping[str, Any]) -> str:
    values = schema.get("enum", ())
    if values and len(values) < 10:
        return "|".join(map(str, values))
    kind = schema.get("type", "JSON")
    if kind == "array":
        return f"list of {_word(schema.get('items', {}))}"
    if kind == "string":
        return "time" if schema.get("format") == "date-time" else "text"
    return "JSON" if kind == "object" else str(kind)


def _typed(kinds: Sequence[str], text: str) -> Any:
    if "string" in kinds:
        return text
    if "integer" in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in kinds and _NUMBER.fullmatch(text):
        return float(text)
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    return text


def find_operation(name: str) -> Operation:
    """Return an operation by its name; refuse one that is not in the table, and say what is."""
    if name in BY_NAME:
        return BY_NAME[name]
    meant = nearest(name, BY_NAME)
    same = [each for each in BY_NAME if each.partition(".")[0] == name.partition(".")[0]]
    beside = f"There are {', '.join(same)}.\n" if same else ""
    raise usage(
        f"There is no operation {name!r}." + (f" Did you mean {meant}?" if meant else ""),
        f"{beside}All operations:\n  {PROGRAM} call --list",
    )


def fields_of(operation: Operation) -> dict[str, Field]:
    """Name all that the operation takes: the path's variables, then its body, then its query."""
    found = {name: Field(name, "path", True, {"type": "string"}) for name in _variables(operation)}
    for place, model in (("body", operation.body), ("query", operation.params)):
        for each in _fields(model, "body" if place == "body" else "query"):
            found.setdefault(each.name, each)
    return found


def _variables(operation: Operation) -> list[str]:
    return re.findall(r"{(\w+)}", operation.path)


def _fields(model: type[BaseModel] | None, place: Place) -> Iterator[Field]:
    if model is None:
        return
    schema = model.model_json_schema()
    shared = schema.get("$defs", {})
    for name, told in schema.get("properties", {}).items():
        name_of_shared = str(told.get("$ref", "")).rpartition("/")[2]
        own = {**shared.get(name_of_shared, {}), **told}
        yield Field(name, place, name in schema.get("required", ()), own)


# --- from words to what a call is made of ---


@dataclass
class Input:
    """What a call is made with: the path's variables, the query and the body."""

    ids: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] | None = None


def read_words(operation: Operation, words: Sequence[str], *, strict: bool = True) -> Input:
    """Read ``field=text``, ``field:=json``, ``-`` and ``@file``, or raise what is wrong with them.

    Fields are put over those of the file. Unless ``strict``, fields that the operation does not
    have are taken as well, for the server to judge.
    """
    fields = fields_of(operation)
    given = Input(body={} if operation.body else None)
    seen: set[str] = set()
    if bodies := [word for word in words if not _is_field(word)]:
        given.body = _whole_body(operation, bodies)
    for word in filter(_is_field, words):
        match = _WORD.fullmatch(word)
        assert match is not None, "a field has a ="
        name = match["name"]
        one = fields.get(name)
        if one is None:
            if strict or not name:
                raise _no_such_field(operation, name, fields)
            one = Field(name, "query" if operation.body is None else "body", False, {})
        is_json = match["kind"] == ":="
        if name in seen and (is_json or "array" not in one.kinds):
            raise usage(f"{name} is given twice.", "Leave one of them out.")
        value = _json(name, match["value"]) if is_json else match["value"]
        _put(given, one, value, is_text=not is_json, again=name in seen)
        seen.add(name)
    missing = [name for name in _variables(operation) if name not in given.ids]
    if missing:
        raise _missing(operation, missing)
    return given


def _is_field(word: str) -> bool:
    return word != _STDIN and not word.startswith("@") and "=" in word


def _put(given: Input, one: Field, value: Any, *, is_text: bool, again: bool) -> None:
    if one.place == "path":
        given.ids[one.name] = value
        return
    if one.place == "query":
        given.params[one.name] = value  # a query is text, and its model reads it
        return
    assert given.body is not None, "there are fields of a body"
    if is_text and "array" in one.kinds and "string" not in one.kinds:
        earlier = given.body[one.name] if again else []
        given.body[one.name] = [*earlier, one.read_item(value)]
    else:
        given.body[one.name] = one.read(value) if is_text else value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise usage(
            f"The value of {name} is not JSON: {_why(error)}.",
            f"After := stands JSON, in quotes for the shell. Text is written with = alone:\n"
            f"""  {name}:='["a", "b"]'   {name}:=5   {name}:=null   {name}=text""",
        ) from None


def _whole_body(operation: Operation, words: Sequence[str]) -> dict[str, Any]:
    word, *others = words
    if word != _STDIN and not word.startswith("@"):
        raise _no_field(operation, word)
    if others:
        raise usage("One body is enough: - or one @FILE.", "Leave the others out.")
    if operation.body is None:
        raise usage(f"{operation.name} takes no body.", _takes(operation))
    name = "standard input" if word == _STDIN else word[1:]
    try:
        text = sys.stdin.buffer.read() if word == _STDIN else Path(word[1:]).read_bytes()
        body = json.loads(text)
    except OSError as error:
        raise usage(f"{name} cannot be read: {error.strerror}.", "Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise usage(f"{name} is not JSON: {_why(error)}.", "The body is a JSON object.") from None
    if not isinstance(body, dict):
        raise usage(f"{name} is not a JSON object.", _takes(operation))
    return body


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, line {error.lineno}, column {error.colno}"
    return "it is nested too deep" if isinstance(error, RecursionError) else "it is not UTF-8"


def _no_field(operation: Operation, word: str) -> Failure:
    # It may be a token in the wrong place, which is not told back.
    shown = "A word" if word.startswith("op_") else repr(word)
    ids = _variables(operation)
    meant = f" Did you mean {ids[0]}={word}?" if ids and not word.startswith("op_") else ""
    return usage(f"{shown} is not field=value.{meant}", _takes(operation))


def _no_such_field(operation: Operation, name: str, fields: Mapping[str, Field]) -> Failure:
    meant = nearest(name, fields)
    return usage(
        f"{operation.name} has no field {name!r}." + (f" Did you mean {meant}?" if meant else ""),
        _takes(operation),
    )


def _missing(operation: Operation, names: Sequence[str]) -> Failure:
    words = " ".join(f"{name}=…" for name in names)
    return usage(
        f"{operation.name} needs {' and '.join(names)}.",
        f"Say which one:\n  {PROGRAM} call {operation.name} {words}",
    )


def _takes(operation: Operation) -> str:
    """Say what the operation takes, a line for each field."""
    fields = fields_of(operation).values()
    if not fields:
        return f"{operation.name} takes no fields."
    return "\n".join((f"{operation.name} takes:", *(f"  {each}" for each in fields)))
