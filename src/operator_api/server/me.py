"""Who the caller is, and what it may do."""

from operator_api.contract.fields import format_timestamp
from operator_api.server.exchange import Answer, Call, Handler
from operator_api.server.limits import Policy


def handlers(policy: Policy, body_bytes: int) -> dict[str, Handler]:
    """Return the handler, which tells the limits that hold."""
    limits = {
        "rate": {"limit": policy.limit, "window_seconds": policy.window_seconds},
        "body_bytes": body_bytes,
    }

    async def get_me(call: Call) -> Answer:
        token = call.token
        expires_at = token.expires_at
        return Answer(
            {
                "account": {"id": token.account_id, "name": token.account_name},
                "environment": token.environment,
                "token_id": token.id,
                "token_name": token.name,
                "scopes": sorted(token.scopes),
                "expires_at": None if expires_at is None else format_timestamp(expires_at),
                "limits": limits,
            }
        )

    return {"me.get": get_me}
