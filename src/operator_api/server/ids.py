"""Ids: a prefix that says of what, then 16 hexadecimal digits of time and 16 of chance."""

import random
import time


def new_id(prefix: str) -> str:
    """Mint an id. Ids sort by when they were made, to the nanosecond."""
    # Ids are no secrets: they must not repeat, but may be guessed.
    return f"{prefix}_{time.time_ns():016x}{random.getrandbits(64):016x}"


def now_microseconds() -> int:
    """Return the time, in the unit that the store keeps."""
    return time.time_ns() // 1000
