"""Redaction of what has names: JSON documents, queries and headers.

Names and shapes stay, values become their kind and length, such as ``<email 17>``. A value stays
only where its name is on a list that the caller gives, and nothing in it looks like a secret.

The same names, and short values such as ``web`` or ``*/*``, come again and again; what was made of
them is kept for a while.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from operator_api.vault.redact import (
    MASK,
    MAX_SHORT,
    is_id,
    is_secret_name,
    is_time,
    kind_of,
    made_of_words,
    mask,
    redact_identifier,
    redact_text,
)

MAX_BODY = 256 * 1024
_MAX_HEADERS = 100
_MAX_DEPTH = 32
_MAX_ITEMS = 200
_MAX_NODES = 1000
_LARGEST_CLEAR_NUMBER = 1_000_000
_KEPT = 4096

_UNREADABLE = re.compile(rb'"<unreadable [0-9]{1,12} sha256:[0-9a-f]{16}>"')
_identifier = re.compile(r"[A-Za-z_$@][A-Za-z0-9_$.-]{0,47}")
_clear_value = re.compile(r"[A-Za-z0-9_.:/#*~+-]*")

_quick_text = lru_cache(_KEPT)(redact_text)
_quick_identifier = lru_cache(_KEPT)(redact_identifier)


@dataclass(frozen=True, slots=True)
class Known:
    """The names that an API knows, in lower case; ``parent.name`` is one in one place only.

    ``clear`` values stay if they are short and plain, ``prose`` stays as redacted text, and
    names in ``masked`` stay while their values go. ``headers`` are the ones whose values stay.
    """

    clear: frozenset[str] = frozenset()
    prose: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Every name of a field that may be shown."""
        listed = self.clear | self.prose | self.masked
        return frozenset(name.rpartition(".")[2] for name in listed)


class _Place(NamedTuple):
    """Where in a document a value is: its name, how deep it is, and what may be kept of it."""

    name: str = ""
    depth: int = 0
    secret: bool = False
    clear: bool = False
    prose: bool = False


class Redactor:
    """Redacts the bodies and headers of an API whose names are known."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._names = known.names
        self._members: dict[tuple[str, _Place], tuple[str, _Place]] = {}
        self._headers: dict[tuple[str, str], tuple[str, str]] = {}

    def body(self, body: bytes) -> bytes:
        """Redact a JSON body; of what is not readable, length and hash stay."""
        if _UNREADABLE.fullmatch(body):
            return body
        try:
            if len(body) > MAX_BODY:
                raise ValueError
            value = json.loads(body)
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            digest = hashlib.sha256(body).hexdigest()[:16]
            return f'"<unreadable {len(body)} sha256:{digest}>"'.encode()
        return json.dumps(self.json(value), separators=(",", ":")).encode()

    def json(self, value: Any) -> Any:
        """Redact a JSON value. Booleans and null stay; of the rest, names and shapes do."""
        return self._value(value, _Place(), [_MAX_NODES])

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Redact headers: names stay as given, and the values of those that are known."""
        redacted = []
        for count, header in enumerate(headers):
            if count == _MAX_HEADERS:
                break
            made = self._headers.get(header)
            if made is None:
                made = self._header(*header)
                if len(header[0]) + len(header[1]) <= MAX_SHORT:
                    _keep(self._headers, header, made)
            redacted.append(made)
        return redacted

    def _header(self, name: str, value: str) -> tuple[str, str]:
        if name.lower() in self._known.headers:
            return name, _identifier_of(value)
        kind = "secret" if is_secret_name(name) else kind_of(value)
        return self._key(name), value if MASK.fullmatch(value) else mask(kind, value)

    def name(self, name: str) -> str:
        """Return a name as it may be shown: itself, or its kind and length."""
        return self._key(name)

    def _value(self, value: Any, place: _Place, left: list[int]) -> Any:
        left[0] -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, (int, float)):
            return self._number(value, place)
        if isinstance(value, (dict, list, tuple)):
            if place.depth == _MAX_DEPTH or left[0] <= 0:
                return "<nested>"
            if isinstance(value, dict):
                return self._object(value, place, left)
            return self._list(value, place, left)
        return "<object>"

    def _object(self, value: dict[Any, Any], place: _Place, left: list[int]) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        for key, member in value.items():
            if len(redacted) == _MAX_ITEMS or left[0] <= 0:
                redacted[_more(len(value) - len(redacted), key)] = None
                break
            name = key if isinstance(key, str) else "<object>"
            shown, inside = self._member(name, place)
            redacted[_unlike(redacted, shown)] = self._value(member, inside, left)
        return redacted

    def _member(self, name: str, parent: _Place) -> tuple[str, _Place]:
        """Return how a name is shown, and what may be kept of its value."""
        made = self._members.get((name, parent))
        if made is not None:
            return made
        plain = name.lower()
        clear, prose = (
            plain in names or f"{parent.name}.{plain}" in names
            for names in (self._known.clear, self._known.prose)
        )
        unlisted = not (clear or prose) and MASK.fullmatch(name) is None
        secret = parent.secret or (unlisted and is_secret_name(name))
        made = self._key(name), _Place(plain, parent.depth + 1, secret, clear, prose)
        if len(name) <= MAX_SHORT:
            _keep(self._members, (name, parent), made)
        return made

    def _list(self, value: Iterable[Any], place: _Place, left: list[int]) -> list[Any]:
        inside = place._replace(depth=place.depth + 1)
        items = list(value)
        redacted: list[Any] = []
        for item in items:
            if len(redacted) == _MAX_ITEMS or left[0] <= 0:
                return [*redacted, _more(len(items) - len(redacted), item)]
            redacted.append(self._value(item, inside, left))
        return redacted

    def _text(self, text: str, place: _Place) -> str:
        if MASK.fullmatch(text):
            return text
        if place.secret:
            return mask("secret", text)
        if place.prose:
            return _quick_text(text) if len(text) <= MAX_SHORT else redact_text(text)
        if place.clear and len(text) <= MAX_SHORT and _is_clear(text):
            return text
        return mask(kind_of(text), text)

    def _number(self, number: float, place: _Place) -> Any:
        clear = place.clear and not place.secret
        return number if clear and abs(number) < _LARGEST_CLEAR_NUMBER else "<number>"

    def _key(self, key: str) -> str:
        if key.lower() in self._names or MASK.fullmatch(key):
            return key
        if _identifier.fullmatch(key) and made_of_words(key) and redact_text(key) == key:
            return key
        kind = kind_of(key)
        return mask("key" if kind == "string" else kind, key)


@lru_cache(_KEPT)
def _is_clear(text: str) -> bool:
    """Say whether a short value of a known field is as plain as those are."""
    if is_id(text) or is_time(text):
        return True
    return bool(_clear_value.fullmatch(text)) and redact_text(text) == text


def _more(count: int, next_one: Any) -> str:
    """Say how many are left out; what already says so stays as it is."""
    told = count == 1 and isinstance(next_one, str) and MASK.fullmatch(next_one)
    return str(next_one) if told else f"<{count} more>"


def _unlike(taken: dict[str, Any], key: str) -> str:
    """Number masked keys that would be alike."""
    if key not in taken:
        return key
    number = 2
    while (numbered := f"{key[:-1]} #{number}>") in taken:
        number += 1
    return numbered


def _identifier_of(text: str) -> str:
    return _quick_identifier(text) if len(text) <= MAX_SHORT else redact_identifier(text)


def _keep(kept: dict[Any, Any], key: object, made: object) -> None:
    if len(kept) >= _KEPT:
        kept.clear()
    kept[key] = made
