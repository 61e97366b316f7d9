"""What a token may do: scopes, the presets that bundle them, and the two environments."""

from typing import Literal, get_args

Scope = Literal[
    "users:read",
    "users:write",
    "conversations:read",
    "conversations:write",
    "messages:write",
    "tags:read",
    "tags:write",
    "webhooks:read",
    "webhooks:write",
    "requests:read",
    "requests:reveal",
    "review:read",
    "tokens:admin",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)

Environment = Literal["live", "test"]
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)

Preset = Literal["read-only", "conversations", "admin"]
PRESETS: dict[Preset, tuple[Scope, ...]] = {
    "read-only": ("users:read", "conversations:read", "tags:read", "webhooks:read"),
    "conversations": (
        "users:read",
        "users:write",
        "conversations:read",
        "conversations:write",
        "messages:write",
        "tags:read",
        "tags:write",
    ),
    "admin": SCOPES,
}
