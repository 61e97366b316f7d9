"""Read answers as the models of the contract.

A reader is lenient in what may grow, members and values that are new, and strict in the rest: a
member that is missing or of another JSON type makes an answer that is not the operation's.
"""

import json
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError

from operator_api.contract.headers import JSON
from operator_api.contract.models import Page
from operator_api.contract.operations import Operation


class InvalidAnswer(ValueError):
    """What came is not what the operation answers. ``why`` never shows a value of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def read_answer(operation: Operation, content: bytes) -> Any:
    """Return the answer as the operation's model, or raise InvalidAnswer.

    Where the table names no model it is the JSON object as a dict, or else the text.
    """
    if not content.strip():
        raise InvalidAnswer("it is empty")
    if operation.answer is not None:
        return _as_model(operation.answer, content)
    return _as_object(content) if operation.answer_type == JSON else _as_text(content)


# What these raise is never raised while handling the error that says why: that one would be its
# context, and shows the body.


def _as_model(model: type[BaseModel], content: bytes) -> Any:
    try:
        answer = model.model_validate_json(content, strict=True)
    except ValidationError as invalid:
        why = _why(invalid)
    else:
        why = _contradiction(answer)
        if not why:
            return answer
    raise InvalidAnswer(why)


def _contradiction(answer: BaseModel) -> str:
    """Say what makes a well-formed answer useless: a list would end early, and nobody notice."""
    if isinstance(answer, Page) and answer.has_more and not answer.next_cursor:
        return "has_more is true, but next_cursor says not where to go on"
    return ""


def _as_object(content: bytes) -> dict[str, Any]:
    found = None
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
    if not isinstance(found, dict):
        raise InvalidAnswer("it is not a JSON object")
    return found


def _as_text(content: bytes) -> str:
    text = None
    with suppress(UnicodeDecodeError):
        text = content.decode()
    if text is None:
        raise InvalidAnswer("it is not UTF-8")
    return text


def _why(invalid: ValidationError) -> str:
    details = invalid.errors(include_url=False, include_context=False, include_input=False)
    first = details[0]
    # Pydantic's words are about the form: they quote nothing. A path may have a key of any length.
    what = "is missing" if first["type"] == "missing" else first["msg"]
    where = ".".join(str(step) for step in first["loc"])[:100]
    others = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{where}: {what}{others}" if where else f"{what}{others}"
