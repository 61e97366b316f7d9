"""Operator API: customer conversations over HTTP, with errors that say what to do next."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from operator_api.client import (
        OMIT,
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        AsyncOperatorAI,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        InternalServerError,
        NotFoundError,
        OperatorAI,
        OperatorError,
        OutboxError,
        PermissionDeniedError,
        RateLimitError,
        RequestValidationError,
        UnprocessableEntityError,
    )

__version__ = "0.1.0"

__all__ = [
    "OMIT",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncOperatorAI",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "InternalServerError",
    "NotFoundError",
    "OperatorAI",
    "OperatorError",
    "OutboxError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestValidationError",
    "UnprocessableEntityError",
]


def __getattr__(name: str) -> Any:
    """Load the client when one of its names is asked for: the server and its tools need none."""
    if name in __all__:
        return getattr(import_module("operator_api.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
