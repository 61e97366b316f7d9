"""Rate limits: one ``hit`` decides and counts in the same step."""

from operator_api.server.limits.limiter import Limiter, Policy, Verdict

__all__ = ["Limiter", "Policy", "Verdict"]
