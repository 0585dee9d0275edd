"""All modules of interactions; importing them registers these."""

from __future__ import annotations

from . import (
    cases_errors,
    cases_messages,
    cases_modern,
    cases_order,
    cases_questions,
    cases_requests,
    cases_sessions,
)
from .interactions import INTERACTIONS

__all__ = ["CASES", "INTERACTIONS"]

CASES = (
    cases_errors,
    cases_messages,
    cases_modern,
    cases_order,
    cases_questions,
    cases_requests,
    cases_sessions,
)
