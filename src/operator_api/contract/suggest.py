"""The nearest known name to one that is not known: for fields, parameters, paths and settings."""

from collections.abc import Iterable
from difflib import get_close_matches

# Longer names are no misspellings, and comparing them would cost the square of their length.
_LONGEST = 80
_NEAR_ENOUGH = 0.7


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was most likely meant, or None where nothing is near.

    Letter case, and how words are joined (``userId``, ``user-id``), make no difference.
    """
    if len(name) > _LONGEST:
        return None
    by_plain = {_plain(candidate): candidate for candidate in known}
    found = get_close_matches(_plain(name), by_plain, n=1, cutoff=_NEAR_ENOUGH)
    return by_plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
