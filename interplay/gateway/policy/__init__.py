"""The policy: virtual keys, budgets, rates, allowed models, redaction, guardrails, audit."""

from interplay.gateway.policy.audit import Audit, audit_key
from interplay.gateway.policy.config import check, parse
from interplay.gateway.policy.gate import Gate
from interplay.gateway.policy.guardrails import Look, Refused

__all__ = ["Audit", "Gate", "Look", "Refused", "audit_key", "check", "parse"]
