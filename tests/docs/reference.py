"""Make the pages under docs/reference that are made of tables: ``python -m tests.docs.reference``.

A test holds each file to what is made here, so that nothing stays undocumented.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from pydantic import BaseModel

from operator_api.cli.call_fields import fields_of
from operator_api.cli.program import app
from operator_api.contract.errors import CATALOGUE, ErrorKind
from operator_api.contract.examples import Example, Request
from operator_api.contract.models import example_of
from operator_api.contract.operations import OPERATIONS, Operation
from operator_api.contract.pages import LOCAL, snippets
from operator_api.contract.snippets import curl
from operator_api.server.limits import Policy
from operator_api.server.settings import PREFIX, Settings
from tests.docs.pages import FOLDER

_MADE = "<!-- Made by `python -m tests.docs.reference`: change the table, and run it. -->"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def fence(language: str, text: str) -> Iterator[str]:
    yield from (f"```{language}", *text.splitlines(), "```", "")


# --- errors ---


def errors() -> Iterator[str]:
    yield from ("# Errors", "")
    yield "Every reason that an error of this API can have. A server has a page for each, at"
    yield "`/docs/errors/REASON`, and `operator-api explain REASON` prints it."
    yield ""
    for kind in CATALOGUE.values():
        yield from _error(kind)


def _error(kind: ErrorKind) -> Iterator[str]:
    yield from (f"## {kind.reason}", "")
    where = "one field, in `errors`" if kind.of_field else f"`{kind.type}`"
    yield from (f"{kind.status} {kind.title} ({where}): {kind.message}", "")
    yield from (f"- Cause: {cause}" for cause in kind.causes)
    yield f"- What to do: {kind.hint if kind.hint == kind.fix else f'{kind.hint} {kind.fix}'}"
    yield f"- Retry? {'yes' if kind.retryable else 'no'}, `{kind.action}`"
    yield f"- Did it happen? `{kind.outcome}`"
    if kind.related:
        yield f"- Related: {', '.join(f'[{each}](#{each})' for each in kind.related)}"
    yield ""
    yield from fence("shell", snippets(kind, None)["curl"])


# --- operations ---


def operations() -> Iterator[str]:
    yield from ("# Operations", "")
    yield "Base address: where the server runs. Every request but those marked public takes"
    yield "`Authorization: Bearer TOKEN`. Bodies are JSON; unknown fields are refused."
    yield ""
    resources = dict.fromkeys(operation.resource for operation in OPERATIONS)
    for resource in resources:
        yield from (f"## {resource}", "")
        for operation in OPERATIONS:
            if operation.resource == resource:
                yield from _operation(operation)
    yield from ("## Errors of every operation with a token", "")
    yield from ("Beside its own, each of them can give:", "", _linked(_COMMON), "")
    yield from ("## Objects", "")
    for model in _answers():
        yield from (f"### {_called(model)}", "", *_described(model))


def _operation(operation: Operation) -> Iterator[str]:
    yield from (f"### {operation.name}", "", f"`{operation.method} {operation.path}`", "")
    yield f"{operation.summary}. {_needs(operation)}"
    yield ""
    fields = [*fields_of(operation).values()]
    if fields:
        rows = [
            (
                f"`{each.name}`",
                each.place,
                _limits(each.schema, nullable=each.place == "body") or each.type,
                "required" if each.required else _default(each.schema),
                str(each.schema.get("description", "")),
            )
            for each in fields
        ]
        yield from table(("field", "in", "type", "", "what it is"), rows)
    yield f"Answers {operation.status} with {_answer(operation)}. {_headers(operation)}".rstrip()
    yield ""
    yield from fence("shell", curl(Example((_request(operation),)), LOCAL))
    yield from fence("python", _python(operation))
    if operation.public:
        yield f"Errors: {_linked(operation.errors)}"
    else:
        own = _linked([kind for kind in operation.errors if kind not in _COMMON])
        shared = "[those of every operation with a token](#errors-of-every-operation-with-a-token)"
        yield f"Errors: {own or 'none of its own'}; and {shared}."
    yield ""


_COMMON = [
    kind
    for kind in OPERATIONS[0].errors
    if all(kind in each.errors for each in OPERATIONS if not each.public)
]


def _linked(kinds: Iterable[ErrorKind]) -> str:
    return ", ".join(f"[{kind.reason}](errors.md#{kind.reason})" for kind in kinds)


def _needs(operation: Operation) -> str:
    if operation.public:
        return "Public: it needs no token."
    return f"Scope: `{operation.scope}`." if operation.scope else "Any token."


def _headers(operation: Operation) -> str:
    told = []
    if operation.writes:
        told.append("`Idempotency-Key` makes it safe to repeat.")
    if operation.takes_if_match:
        told.append("`If-Match` guards against changes in between.")
    if operation.entity_tag and operation.method != "DELETE":
        told.append("The answer has an `ETag`.")
    return " ".join(told)


def _answer(operation: Operation) -> str:
    if operation.answer is None:
        return " or ".join(f"`{each}`" for each in (operation.answer_type, *operation.other_types))
    name = _called(operation.answer)
    return f"[{name}](#{name.lower().replace(' ', '-')})"


def _answers() -> list[type[BaseModel]]:
    return [*dict.fromkeys(each.answer for each in OPERATIONS if each.answer is not None)]


def _called(model: type[BaseModel]) -> str:
    return model.__name__.replace("[", " of ").replace("]", "")


def _described(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema(mode="serialization")
    shared = schema.get("$defs", {})
    if schema.get("description"):
        yield from (str(schema["description"]).replace("``", "`"), "")
    rows = [(f"`{name}`", _kind(told, shared)) for name, told in schema["properties"].items()]
    yield from table(("member", "type"), rows)


def _kind(told: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Say of what type a member of an answer is, in words."""
    if "$ref" in told:
        name = str(told["$ref"]).rpartition("/")[2]
        members = shared[name].get("properties")
        inner = (f"`{each}`" for each in members or ())
        return f"{name}: {', '.join(inner)}" if members else _kind(shared[name], shared)
    if "anyOf" in told:
        return " or ".join(dict.fromkeys(_kind(each, shared) for each in told["anyOf"]))
    if told.get("type") == "array":
        return f"list of {_kind(told.get('items', {}), shared)}"
    if "enum" in told:
        return ", ".join(f"`{each}`" for each in told["enum"])
    if "const" in told:
        return f"`{json.dumps(told['const'])}`"
    return "time" if told.get("format") == "date-time" else str(told.get("type", "any JSON"))


def _limits(schema: Mapping[str, Any], *, nullable: bool = False) -> str:
    """Say of what type a field is, and what its limits are, in words."""
    if "anyOf" in schema:
        choices = [each for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(map(_limits, choices)) + (" or null" if nullable else "")
    kind = schema.get("type", "")
    if "enum" in schema:
        return "one of " + ", ".join(f"`{each}`" for each in schema["enum"])
    if kind == "array":
        most = f", {schema['maxItems']} at most" if "maxItems" in schema else ""
        return f"list of {_limits(schema.get('items', {}))}{most}"
    if kind == "string":
        named = {"date-time": "time", "idn-email": "email address"}.get(schema.get("format", ""))
        size = f"{schema['minLength']} to " if "minLength" in schema else "at most "
        limit = f", {size}{schema['maxLength']} characters" if "maxLength" in schema else ""
        return f"{named or 'text'}{limit}"
    if kind == "integer" and "minimum" in schema:
        return f"integer, {schema['minimum']} to {schema['maximum']}"
    return str(kind)


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "optional" if default is None else f"optional, `{json.dumps(default)}`"


_SAMPLES = {"reason": "validation_failed"}


def _path(operation: Operation) -> str:
    path = operation.path
    for name, kind in operation.ids.items():
        path = path.replace(f"{{{name}}}", f"{kind.prefix}_0197b1c2d3e4f5061718293a4b5c6d7e")
    return path.format_map(_SAMPLES)


def _request(operation: Operation) -> Request:
    body = example_of(operation.body) if operation.body is not None else None
    bearer = None if operation.public else "OPERATOR_API_KEY"
    return Request(operation.method, _path(operation), body or None, bearer=bearer)


def _python(operation: Operation) -> str:
    values = [segment for segment in _path(operation).split("/") if segment]
    names = operation.path.split("/")[1:]
    ids = [f'"{value}"' for value, name in zip(values, names, strict=True) if name.startswith("{")]
    body = example_of(operation.body) if operation.body is not None else {}
    arguments = [*ids, *(f"{name}={value!r}" for name, value in body.items())]
    call = f"client.{operation.name}({', '.join(arguments)})".replace("'", '"')
    return f"from operator_api import OperatorAI\n\nclient = OperatorAI()\nprint({call})"


# --- the command line ---


def commands() -> Iterator[str]:
    yield from ("# Commands", "")
    yield "Every command takes `--json`, and ends with 0 when it is done, 1 when it has failed, and"
    yield "2 when it was written wrongly."
    yield ""
    for words in command_words():
        name = " ".join(("operator-api", *words))
        yield from (f"## {name}" if words else "## operator-api", "")
        yield from fence("text", _help(words))


def command_words() -> list[tuple[str, ...]]:
    """Name each command, and each group of them."""
    found: list[tuple[str, ...]] = []

    def visit(command: Any, words: tuple[str, ...]) -> None:
        found.append(words)
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, (*words, name))

    visit(typer.main.get_command(app), ())
    return found


def _help(words: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "operator_api.cli", *words, "--help"],
        env={"COLUMNS": "88", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


# --- settings ---


def settings() -> Iterator[str]:
    yield from ("# Settings", "")
    yield "What a server can be told, each as a variable. Those of `operator-api serve` have an"
    yield "option too, which wins. A variable that begins with `OPERATOR_` and is none of these is"
    yield "refused."
    yield ""
    rows = []
    for name, told in Settings.model_fields.items():
        default = told.default
        if isinstance(default, Policy):
            default = f"{default.limit}/{default.window_seconds}s"
        shown = "none" if default in (None, "") else f"`{default}`"
        rows.append((f"`{PREFIX}{name.upper()}`", shown, str(told.description)))
    yield from table(("variable", "default", "what it is"), rows)
    yield "Those of the client are in [its configuration](../client/configuration.md)."
    yield ""


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "errors.md": errors,
    "operations.md": operations,
    "commands.md": commands,
    "settings.md": settings,
}


def made(name: str) -> str:
    """Return a page as it should be."""
    head, *rest = PAGES[name]()
    return "\n".join([head, "", _MADE, *rest]).rstrip() + "\n"


def main() -> None:
    (FOLDER / "reference").mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / "reference" / name).write_text(made(name), encoding="utf-8")


if __name__ == "__main__":
    main()
