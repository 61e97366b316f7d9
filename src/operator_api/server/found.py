"""The errors that features share: what a path or a field names does not exist."""

from operator_api.contract.errors import NOT_FOUND, RESOURCE_NOT_FOUND, Problem
from operator_api.contract.validation import field_error, invalid_fields


def not_found(resource: str) -> Problem:
    """Return the 404 of an id in the path."""
    return Problem(RESOURCE_NOT_FOUND, {"resource": resource})


def refers_to_nothing(field: str, resource: str) -> Problem:
    """Return the 422 of an id in the body."""
    return invalid_fields([field_error("body", (field,), NOT_FOUND.reason, resource=resource)])
