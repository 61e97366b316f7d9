"""What the client tells of its work: the program's log, and the log of failed requests."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operator_api.client.failures.log import FailureLog

_LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}

log = logging.getLogger("operator_api.client")


def log_as_told() -> None:
    """Write to standard error what OPERATOR_LOG asks for: ``info`` or ``debug``.

    Without it, the lines go wherever the program's own logging sends them.
    """
    level = _LEVELS.get(os.environ.get("OPERATOR_LOG", "").lower())
    if level is None or log.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)


def open_failure_log(given: "FailureLog | str | Path | None") -> "FailureLog | None":
    """Return the log of failed requests: the argument, or OPERATOR_FAILURE_LOG, or none."""
    chosen = given or os.environ.get("OPERATOR_FAILURE_LOG")
    if not isinstance(chosen, (str, Path)):
        return chosen
    # Redaction takes a while to load, and few programs need it.
    from operator_api.client.failures.log import FailureLog  # noqa: PLC0415 - see above

    return FailureLog(chosen)
