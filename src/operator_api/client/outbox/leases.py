"""Who holds a lease, by a name that tells others whether that process is still there."""

import os
import secrets
import socket
import sys


def new_owner() -> str:
    """Return a name for a drainer, from which others can tell whether its process is gone."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def is_gone(owner: str) -> bool:
    """Say whether the process certainly ended. To be wrong costs a request, not a second write."""
    host, _, rest = owner.partition(":")
    number = rest.partition(":")[0]
    if sys.platform == "win32" or host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
