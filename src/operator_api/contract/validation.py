"""Check a body or a query against its model, and say all that is wrong with it at once.

The server and its clients share this, so that what the server would refuse never needs to leave
the client, and both say the same.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from operator_api.contract import errors
from operator_api.contract.errors import CATALOGUE, FieldError, Place, Problem
from operator_api.contract.models import field_names
from operator_api.contract.suggest import nearest

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]

MAX_ERRORS = 50
# An unknown name is told back to its sender; this much of it is enough to recognise it.
_LONGEST_NAME = 100
# What only the server sets: sent back by callers who change a record that they have read.
READ_ONLY = frozenset(
    {"id", "created_at", "updated_at", "started_at", "closed_at", "revoked_at", "hint"}
)
_MISSING = object()
_CONVERTIBLE = frozenset({errors.WRONG_TYPE.reason, errors.NOT_ALLOWED_VALUE.reason})


def validate_body(model: type[Model], body: Mapping[str, Any]) -> Model:
    """Return the body as its model, or raise 422 ``validation_failed`` with every field error."""
    try:
        return model.__pydantic_validator__.validate_python(body)  # type: ignore[no-any-return] # pydantic types it as Any
    except ValidationError as raised:
        raise _refusal(raised, model, body) from None


def _refusal(raised: ValidationError, model: type[BaseModel], body: Mapping[str, Any]) -> Problem:
    invalid, dropped = _with_few_unknown(raised, model, body)
    found = _field_errors(invalid, "body", model, body)
    more = invalid.error_count() - len(found) + dropped
    shown = [error for _, error in found] if more else _with_fixes(found, model, body)
    return invalid_fields(shown, more)


def _with_few_unknown(
    invalid: ValidationError, model: type[BaseModel], body: Mapping[str, Any]
) -> tuple[ValidationError, int]:
    """Leave all but the first unknown fields out: describing 100,000 would take a second."""
    if len(body) <= MAX_ERRORS:
        return invalid, 0
    known = field_names(model)
    unknown = [name for name in body if name not in known][MAX_ERRORS:]
    if not unknown:
        return invalid, 0
    few = dict(body)
    for name in unknown:
        del few[name]
    try:
        model.__pydantic_validator__.validate_python(few)
    except ValidationError as fewer:
        return fewer, len(unknown)
    raise AssertionError("the unknown fields that were left are errors") from invalid


def validate_params(model: type[Model], params: Mapping[str, str]) -> Model:
    """Return the query as its model, or raise 400 with every wrong parameter."""
    try:
        return model.__pydantic_validator__.validate_python(params)  # type: ignore[no-any-return] # pydantic types it as Any
    except ValidationError as invalid:
        found = _field_errors(invalid, "query", model, params)
        raise invalid_params([error for _, error in found]) from None


def invalid_fields(found: Sequence[FieldError], more: int = 0) -> Problem:
    """Make the 422 of these field errors; ``more`` counts those that are not shown."""
    return Problem(errors.VALIDATION_FAILED, {"more_errors": more} if more else {}, errors=found)


def invalid_params(found: Sequence[FieldError]) -> Problem:
    """Make the 400 of these parameters: ``unknown_parameter`` where that is all that is wrong."""
    unknown = all(error.reason == errors.UNKNOWN_FIELD.reason for error in found)
    kind = errors.UNKNOWN_PARAMETER if unknown else errors.INVALID_PARAMETER
    return Problem(kind, errors=found)


def field_error(place: Place, path: Path, reason: str, **variables: str) -> FieldError:
    """Make one field error, its message filled from the catalogue.

    The names in the path are to be short: they are kept for the next time.
    """
    return _field_error(place, path, reason, tuple(variables.items()))


# The same few errors are made again and again, and making one takes longer than all else about it.
@lru_cache(maxsize=4096)
def _field_error(
    place: Place, path: Path, reason: str, variables: tuple[tuple[str, str], ...]
) -> FieldError:
    message = CATALOGUE[reason].message.format_map({"field": _label(path), **dict(variables)})
    return FieldError(place, "#" + quote(_pointer(path)), _dotted(path), reason, message)


# --- from pydantic's errors to the catalogue's ---


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_Variables = Callable[[Mapping[str, Any]], dict[str, str]]

# Each error that pydantic can give for our models: the field reason, and its message's variables.
TRANSLATION: dict[str, tuple[str, _Variables]] = {
    "missing": ("required", lambda _: {}),
    "string_type": ("wrong_type", lambda _: {"expected": "a string"}),
    "int_type": ("wrong_type", lambda _: {"expected": "a whole number"}),
    "list_type": ("wrong_type", lambda _: {"expected": "a list"}),
    "string_too_short": (
        "too_short",
        lambda ctx: {"minimum": _count(ctx["min_length"], "character")},
    ),
    "string_too_long": (
        "too_long",
        lambda ctx: {"maximum": _count(ctx["max_length"], "character")},
    ),
    "too_short": ("too_short", lambda ctx: {"minimum": _count(ctx["min_length"], "item")}),
    "too_long": ("too_many_items", lambda ctx: {"maximum": _count(ctx["max_length"], "item")}),
    "greater_than_equal": ("out_of_range", lambda ctx: {"expected": f"at least {ctx['ge']}"}),
    "less_than_equal": ("out_of_range", lambda ctx: {"expected": f"at most {ctx['le']}"}),
    "literal_error": (
        "not_allowed_value",
        lambda ctx: {"expected": "one of " + ctx["expected"].replace("'", "")},
    ),
}


def _field_errors(
    invalid: ValidationError, place: Place, model: type[BaseModel], sent: Mapping[str, Any]
) -> list[tuple[Path, FieldError]]:
    """Translate the first errors, in the order of the body; what is missing comes last."""
    details = invalid.errors(include_url=False, include_input=False)
    if len(details) > 1:
        position: dict[str | int, int] = {name: index for index, name in enumerate(sent)}
        details.sort(key=lambda detail: position.get(detail["loc"][0], len(position)))
    return [_translate(detail, place, model, sent) for detail in details[:MAX_ERRORS]]


def _translate(
    detail: ErrorDetails, place: Place, model: type[BaseModel], sent: Mapping[str, Any]
) -> tuple[Path, FieldError]:
    path: Path = detail["loc"]
    context: dict[str, Any] = detail.get("ctx", {})
    name = detail["type"]
    if name == "extra_forbidden":
        return path, _unknown_field(place, path, model)
    if not detail["msg"]:  # a rule of ours, whose type is the reason; pydantic has a too_short too
        return path, field_error(place, path, name, **context)
    reason, variables = TRANSLATION[name]
    error = field_error(place, path, reason, **variables(context))
    if name == "literal_error" and isinstance(value := _at(path, sent), str):
        error = error.suggesting(nearest(value, re.findall("'([^']+)'", context["expected"])))
    return path, error


def _unknown_field(place: Place, path: Path, model: type[BaseModel]) -> FieldError:
    name = str(path[-1])
    path = (*path[:-1], name[:_LONGEST_NAME])
    if place == "body" and name in READ_ONLY:
        return field_error(place, path, errors.READ_ONLY.reason)
    kind = "field" if place == "body" else "parameter"
    shown = name[:_LONGEST_NAME]
    error = field_error(place, path, errors.UNKNOWN_FIELD.reason, field=shown, kind=kind)
    return error.suggesting(_near_field(shown, model))


@lru_cache(maxsize=1024)
def _near_field(name: str, model: type[BaseModel]) -> str | None:
    return nearest(name, field_names(model))


# --- fixes: operations on the sent body that invent nothing ---


def _with_fixes(
    found: list[tuple[Path, FieldError]], model: type[BaseModel], body: Mapping[str, Any]
) -> list[FieldError]:
    """Add each fix that holds: made on a copy of the body, it leaves no error where it acted.

    A missing field that a rename supplies is no error of its own: one mistake, one error. Where
    all errors have a fix, the body that they make together is accepted.
    """
    fixes = _proposed(found, body)
    if not fixes:
        return [error for _, error in found]
    left = _errors_after(fixes, model, body)
    while fixes and left:
        spoiled = [path for path, fix in fixes.items() if _is_under(_target(path, fix), left)]
        if not spoiled:
            break
        fixes = {path: fix for path, fix in fixes.items() if path not in spoiled}
        left = _errors_after(fixes, model, body)
    supplied = {_target(path, fix) for path, fix in fixes.items() if fix["op"] == "move"}
    errors_now = [
        replace(error, fix=fixes.get(path))
        for path, error in found
        if not (error.reason == errors.REQUIRED.reason and path in supplied)
    ]
    if left and all(error.fix for error in errors_now):
        return [error for _, error in found]
    return errors_now


def _proposed(
    found: list[tuple[Path, FieldError]], body: Mapping[str, Any]
) -> dict[Path, dict[str, Any]]:
    fixes: dict[Path, dict[str, Any]] = {}
    taken: set[Path] = set()
    for path, error in found:
        fix = _fix(path, error, body)
        if fix and _target(path, fix) not in taken:
            fixes[path] = fix
            taken.add(_target(path, fix))
    return fixes


def _is_under(target: Path, paths: list[Path]) -> bool:
    return any(path[: len(target)] == target for path in paths)


def _fix(path: Path, error: FieldError, body: Mapping[str, Any]) -> dict[str, Any] | None:
    if error.reason == errors.READ_ONLY.reason:
        return {"op": "remove", "path": _pointer(path)}
    if error.reason == errors.UNKNOWN_FIELD.reason:
        at, meant = _pointer(path), error.did_you_mean
        if meant and meant not in body:
            return {"op": "move", "from": at, "path": _pointer((*path[:-1], meant))}
        return {"op": "remove", "path": at} if len(at) <= _LONGEST_NAME else None
    if error.reason in _CONVERTIBLE:
        value = _converted(_at(path, body))
        if value is not _MISSING:
            return {"op": "replace", "path": _pointer(path), "value": value}
    return None


def _converted(value: Any) -> Any:
    """Read a number that was sent as text, or lower a word's case; else there is no fix."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and len(value) <= 64:
        number = value.removeprefix("-")
        if number.isascii() and number.isdigit() and value == str(int(value)):
            return int(value)
        if value.lower() != value:
            return value.lower()
    return _MISSING


def _errors_after(
    fixes: Mapping[Path, Mapping[str, Any]], model: type[BaseModel], body: Mapping[str, Any]
) -> list[Path]:
    mended = {
        name: list(value) if isinstance(value, list) else value for name, value in body.items()
    }
    for path, fix in fixes.items():
        _apply(fix, path, mended)
    try:
        model.__pydantic_validator__.validate_python(mended)
    except ValidationError as invalid:
        return [detail["loc"] for detail in invalid.errors(include_url=False, include_input=False)]
    return []


def _apply(fix: Mapping[str, Any], path: Path, body: dict[str, Any]) -> None:
    holder = _at(path[:-1], body)
    if fix["op"] == "replace":
        holder[path[-1]] = fix["value"]
        return
    value = holder.pop(path[-1])
    if fix["op"] == "move":
        holder[_target(path, fix)[-1]] = value


def _target(path: Path, fix: Mapping[str, Any]) -> Path:
    return (*path[:-1], fix["path"].rpartition("/")[2]) if fix["op"] == "move" else path


def _at(path: Path, body: Any) -> Any:
    for step in path:
        body = body[step]
    return body


# --- names of places ---


def _pointer(path: Path) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _label(path: Path) -> str:
    """Call a field as people do: ``user_id`` is "User id", ``tags.0`` is "Item 1 of tags"."""
    if not path:
        return "The body"
    last = path[-1]
    if isinstance(last, int):
        return f"Item {last + 1} of {_label(path[:-1]).lower()}"
    words = last.replace("_", " ")
    return words[:1].upper() + words[1:]
