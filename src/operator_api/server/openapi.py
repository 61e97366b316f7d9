"""The OpenAPI 3.1 document, made of the operations table, the models and the catalogue.

What is the same in many places (a response, a header, an example) stands once, in ``components``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import (
    GenerateJsonSchema,
    JsonSchemaMode,
    JsonSchemaValue,
    models_json_schema,
)
from pydantic_core import core_schema

from operator_api import __version__
from operator_api.contract.errors import (
    CATALOGUE,
    METHOD_NOT_ALLOWED,
    UNKNOWN_ENDPOINT,
    ErrorKind,
)
from operator_api.contract.headers import (
    ERROR_REASON,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_PATTERN,
    IDEMPOTENT_REPLAYED,
    IF_MATCH_PATTERN,
    JSON,
    RATE_LIMIT,
    RATE_LIMIT_POLICY,
    REQUEST_ID,
    RETRY_AFTER,
    SHOULD_RETRY,
    SIMULATE,
    SIMULATED,
)
from operator_api.contract.models import Error, ProblemDetails, example_of
from operator_api.contract.operations import BY_NAME, OPERATIONS, Operation
from operator_api.contract.samples import SAMPLE_REQUEST_ID, sample
from operator_api.server.exchange import View
from operator_api.server.idempotency import FINAL_STATUSES
from operator_api.server.render import MEDIA_TYPES, problem_response
from operator_api.server.simulate import SIMULATE_PATTERN

_DESCRIPTION = """\
Users, conversations, messages and tags, with errors that say what happened and what to do next.

Every answer of 400 and above has the same body. Go by `reason`, and by `retry.action`; `message` is
for people. A path that is not here answers `#/components/responses/404`, and a method that its
path does not have `#/components/responses/405`. HEAD stands wherever GET does.

With a token of the test environment, the header `Operator-Simulate` makes any operation answer any
error of the catalogue, so that what handles it can be tested: that is the `default` response."""

_TAGS = {
    "users": "The people who talk to the account.",
    "conversations": "Exchanges with one user over one channel.",
    "messages": "What is said in a conversation.",
    "tags": "Words put on users.",
    "tokens": "API tokens: made, listed, rotated, revoked.",
    "requests": "The log of requests: what was asked, by whom, and how it ended.",
    "me": "Who the caller is.",
    "errors": "The catalogue of errors.",
    "service": "For those who run the server or write its clients.",
}

_REQUEST_HEADERS: Mapping[str, Mapping[str, Any]] = {
    REQUEST_ID: {
        "description": "Your own id of the request. Errors give it back, as"
        " `metadata.client_request_id`, if it is 1 to 64 of `A-Z a-z 0-9 . _ -`.",
        "schema": {"type": "string"},
    },
    IDEMPOTENCY_KEY: {
        "description": "One random value per operation, the same for each retry of it: the write"
        " is done once, and every retry gets the first answer. Kept for 7 days.",
        "schema": {
            "type": "string",
            "pattern": IDEMPOTENCY_KEY_PATTERN,
            "examples": ["0b0e1a7e-1f0c-4b5e-9d3a-6f2d8c7b5a41"],
        },
    },
    "If-Match": {
        "description": "The ETag of the version to be changed: 412 if it has changed since.",
        "schema": {"type": "string", "pattern": IF_MATCH_PATTERN},
    },
    SIMULATE: {
        "description": "With a test token: answer this error, and execute nothing. `after` is the"
        " Retry-After in seconds, of errors that have one; `times` how many tries of the"
        " Idempotency-Key fail before one passes; `outcome=unknown` says that it may have been"
        " executed (`internal_error`, `store_unavailable`).",
        "schema": {
            "type": "string",
            "pattern": SIMULATE_PATTERN,
            "examples": ["rate_limited; after=7; times=2"],
        },
    },
}

_RESPONSE_HEADERS: Mapping[str, Mapping[str, Any]] = {
    REQUEST_ID: {
        "description": "The request's id, the same as in an error's body; of a replayed answer,"
        " that of the first request.",
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
    },
    RATE_LIMIT_POLICY: {
        "description": "The token's limit: requests (`q`) in a window of seconds (`w`).",
        "schema": {"type": "string", "pattern": r'^"default";q=[0-9]+;w=[0-9.]+$'},
    },
    RATE_LIMIT: {
        "description": "How many requests remain (`r`), and in how many seconds all will (`t`).",
        "schema": {"type": "string", "pattern": '^"default";r=[0-9]+;t=[0-9]+$'},
    },
    "ETag": {
        "description": "The version, for If-Match.",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Location": {
        "description": "The path of what was created.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    IDEMPOTENT_REPLAYED: {
        "description": "This is the answer to the first request with the Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    SHOULD_RETRY: {
        "description": "Whether the same request may succeed later.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
    ERROR_REASON: {
        "description": "The error's reason, as in the body.",
        "schema": {"type": "string", "pattern": "^[a-z_]+$"},
    },
    RETRY_AFTER: {
        "description": "Seconds to wait; waiting so long is enough.",
        "schema": {"type": "integer", "minimum": 0},
    },
    SIMULATED: {
        "description": "The error was asked for, by Operator-Simulate.",
        "schema": {"type": "string", "const": "true"},
    },
    "Cache-Control": {
        "description": "Whether, and for how long, the answer may be kept.",
        "schema": {"type": "string"},
    },
    "Vary": {
        "description": "Errors are shown as the Accept header asks.",
        "schema": {"type": "string", "const": "Accept"},
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token (RFC 6750).",
        "schema": {"type": "string", "pattern": "^Bearer "},
    },
    "Accept": {
        "description": "The media types that the body may have.",
        "schema": {"type": "string"},
    },
    "Accept-Encoding": {
        "description": "The content codings that the body may have.",
        "schema": {"type": "string"},
    },
    "Allow": {
        "description": "The methods that the path has.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": "Where this document is.",
        "schema": {"type": "string"},
    },
}
_OF_EVERY_ERROR = (REQUEST_ID, SHOULD_RETRY, ERROR_REASON, "Cache-Control", "Vary")
_OF_A_TOKEN = (RATE_LIMIT_POLICY, RATE_LIMIT)
_OF_A_STATUS: Mapping[int, Mapping[str, bool]] = {
    401: {"WWW-Authenticate": True},
    405: {"Allow": True},
    415: {"Accept": True, "Accept-Encoding": False},
}
_ERROR_MODELS: Mapping[View, type[BaseModel]] = {"json": Error, "problem": ProblemDetails}
# Refused before the token was looked at; and what may be.
_BEFORE_TOKEN = frozenset({401, 408, 431})
_AROUND_TOKEN = frozenset({400, 404, 405, 429, 500, 503})


def openapi(url: str) -> dict[str, Any]:
    """Return the document of a server that callers reach at ``url``."""
    return _Document(url).as_json()


class _Schemas(GenerateJsonSchema):
    """JSON Schemas without what says nothing: titles made of names, a default of null."""

    def normalize_name(self, name: str) -> str:
        return re.sub(r"\W", "", name)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic asks for each
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        del found["title"]
        if found["additionalProperties"] is True:
            del found["additionalProperties"]
        return found

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", "") is None:
            del found["default"]
        return found


class _ParamSchemas(_Schemas):
    """The same for query parameters, which are text: they can be left out, but not be null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


_Model = tuple[type[BaseModel], JsonSchemaMode]


def _models() -> Iterator[_Model]:
    for operation in OPERATIONS:
        if operation.body is not None:
            yield operation.body, "validation"
        if operation.answer is not None:
            yield operation.answer, "serialization"
    for model in _ERROR_MODELS.values():
        yield model, "serialization"


class _Document:
    """The document while it is put together."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._schemas, definitions = models_json_schema(
            [*dict.fromkeys(_models())],
            ref_template="#/components/schemas/{model}",
            union_format="primitive_type_array",
            schema_generator=_Schemas,
        )
        self._components: dict[str, dict[str, Any]] = {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "op_live_… or op_test_…",
                    "description": "An API token. What an operation lists are the scopes it needs.",
                }
            },
            "schemas": definitions["$defs"],
        }

    def as_json(self) -> dict[str, Any]:
        # First, so that they get the plain names.
        self._refusal([UNKNOWN_ENDPOINT], None)
        self._refusal([METHOD_NOT_ALLOWED], None)
        paths: dict[str, dict[str, Any]] = {}
        for operation in OPERATIONS:
            paths.setdefault(operation.path, {})[operation.method.lower()] = self._operation(
                operation
            )
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Operator API",
                "version": __version__,
                "description": _DESCRIPTION,
                "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": self._url}],
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
            "paths": paths,
            "components": self._components,
        }

    def _share(self, section: str, name: str, content: Mapping[str, Any]) -> dict[str, str]:
        """Keep the content in ``components``, once, and return the reference to it."""
        kept = self._components.setdefault(section, {})
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        key = next(key for key in names if kept.setdefault(key, content) == content)
        return {"$ref": f"#/components/{section}/{key}"}

    # --- what goes in ---

    def _operation(self, operation: Operation) -> dict[str, Any]:
        scopes = [operation.scope] if operation.scope else []
        described: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "description": _description(operation),
            "tags": [operation.resource],
            "security": [] if operation.public else [{"token": scopes}],
            "parameters": [*self._parameters(operation)],
        }
        if operation.body is not None:
            content = {
                "schema": self._schemas[operation.body, "validation"],
                "example": example_of(operation.body),
            }
            described["requestBody"] = {
                "required": not operation.body_optional,
                "content": dict.fromkeys(operation.media_types, content),
            }
        by_status: dict[int, list[ErrorKind]] = {}
        for kind in operation.errors:
            by_status.setdefault(kind.status, []).append(kind)
        described["responses"] = {
            str(operation.status): self._success(operation),
            **{
                str(status): self._refusal(by_status[status], operation)
                for status in sorted(by_status)
            },
            "default": self._simulated(),
        }
        return described

    def _parameters(self, operation: Operation) -> Iterator[dict[str, Any]]:
        for name in re.findall(r"{(\w+)}", operation.path):
            kind = operation.ids.get(name)
            schema = {"pattern": kind.pattern} if kind else {"enum": [*CATALOGUE]}
            parameter = {"name": name, "in": "path", "required": True}
            yield self._share(
                "parameters", name, {**parameter, "schema": {"type": "string", **schema}}
            )
        query = operation.params.model_json_schema(schema_generator=_ParamSchemas)
        for name, schema in query["properties"].items():
            described = {"description": schema.pop("description")}
            yield {"name": name, "in": "query", **described, "schema": schema}
        for name, header in _REQUEST_HEADERS.items():
            if _takes(operation, name):
                yield self._share("parameters", name, {"name": name, "in": "header", **header})

    # --- what comes out ---

    def _success(self, operation: Operation) -> dict[str, Any]:
        types = (operation.answer_type, *operation.other_types)
        plain = {name: {"type": "object" if name == JSON else "string"} for name in types}
        if operation.answer is not None:
            plain[operation.answer_type] = self._schemas[operation.answer, "serialization"]
        return {
            "description": operation.summary,
            "headers": self._headers(_success_headers(operation)),
            "content": {name: {"schema": schema} for name, schema in plain.items()},
        }

    def _refusal(self, kinds: Sequence[ErrorKind], operation: Operation | None) -> dict[str, str]:
        """Describe the errors that share a status."""
        status = kinds[0].status
        narrowed = {"code": {"const": status}, "reason": {"enum": [kind.reason for kind in kinds]}}
        schemas: Mapping[View, Mapping[str, Any]] = {
            view: {
                **self._schemas[model, "serialization"],
                "properties": {"error": {"properties": narrowed}},
            }
            for view, model in _ERROR_MODELS.items()
        }
        content = {
            media_type: {
                "schema": schemas.get(view, {"type": "string"}),
                "examples": {kind.reason: self._example(kind, operation, view) for kind in kinds},
            }
            for view, media_type in MEDIA_TYPES.items()
        }
        return self._share(
            "responses",
            str(status),
            {
                "description": "; ".join(kind.title for kind in kinds),
                "headers": self._headers(_error_headers(kinds, operation)),
                "content": content,
            },
        )

    def _simulated(self) -> dict[str, str]:
        """Describe what Operator-Simulate asks for, where the operation itself cannot give it."""
        schemas = {
            view: self._schemas[model, "serialization"] for view, model in _ERROR_MODELS.items()
        }
        content = {
            media_type: {"schema": schemas.get(view, {"type": "string"})}
            for view, media_type in MEDIA_TYPES.items()
        }
        of_some = (name for each in _OF_A_STATUS.values() for name in each)
        names = {
            **dict.fromkeys((*_OF_EVERY_ERROR, SIMULATED), True),
            **dict.fromkeys((RETRY_AFTER, *_OF_A_TOKEN, *of_some), False),
        }
        described = {
            "description": "Any other error, where Operator-Simulate asked for it",
            "headers": self._headers(names),
            "content": content,
        }
        return self._share("responses", "Simulated", described)

    def _example(self, kind: ErrorKind, operation: Operation | None, view: View) -> dict[str, str]:
        response = problem_response(sample(kind, operation), SAMPLE_REQUEST_ID, self._url, view)
        value = response.body.decode() if view == "markdown" else orjson.loads(response.body)
        return self._share(
            "examples",
            kind.reason if view == "json" else f"{kind.reason}.{view}",
            {"summary": kind.title, "value": value},
        )

    def _headers(self, names: Mapping[str, bool]) -> dict[str, Any]:
        return {
            name: self._share(
                "headers",
                name if always else f"{name}.optional",
                {**_RESPONSE_HEADERS[name], "required": always},
            )
            for name, always in names.items()
        }


def _description(operation: Operation) -> str:
    if operation.public:
        return "Needs no token."
    return (
        f"Needs the scope `{operation.scope}`."
        if operation.scope
        else "Needs a token, of any scope."
    )


def _takes(operation: Operation, header: str) -> bool:
    if header == IDEMPOTENCY_KEY:
        return operation.writes
    return operation.takes_if_match if header == "If-Match" else True


# --- headers: True for those that always come, False for those that may ---


def _success_headers(operation: Operation) -> dict[str, bool]:
    headers = {REQUEST_ID: True}
    if not operation.public:
        headers |= dict.fromkeys(_OF_A_TOKEN, True)
    if operation.entity_tag and operation.method != "DELETE":
        headers["ETag"] = True
    if operation.status == 201 and f"{operation.resource}.get" in BY_NAME:
        headers["Location"] = True
    if operation.writes:
        headers[IDEMPOTENT_REPLAYED] = False
    if operation.name == "service.openapi":
        headers["Cache-Control"] = True
    return headers


def _error_headers(kinds: Sequence[ErrorKind], operation: Operation | None) -> dict[str, bool]:
    status = kinds[0].status
    headers = {**dict.fromkeys(_OF_EVERY_ERROR, True), **_OF_A_STATUS.get(status, {})}
    if kinds == [UNKNOWN_ENDPOINT]:
        headers["Link"] = True
    if status == 403:
        headers["WWW-Authenticate"] = False
    if operation is not None:
        headers[SIMULATED] = False
    if any(kind.waits for kind in kinds):
        headers[RETRY_AFTER] = all(kind.waits for kind in kinds)
    if (operation is None or not operation.public) and status not in _BEFORE_TOKEN:
        headers |= dict.fromkeys(_OF_A_TOKEN, status not in _AROUND_TOKEN)
    if operation is not None and operation.writes and status in FINAL_STATUSES:
        headers[IDEMPOTENT_REPLAYED] = False
    return headers
