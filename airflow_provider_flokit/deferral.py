"""What Airflow does when a deferral ends without its trigger."""

from __future__ import annotations

from typing import Any, Final

BACKSTOP: Final = 120.0
"""
Seconds after a deferred wait's own deadline at which Airflow ends it. The trigger keeps the deadline itself; this is
for the case that no triggerer is alive to do so.
"""


def ended_by_airflow(next_method: str, next_kwargs: dict[str, Any] | None) -> bool:
    """
    Tell whether Airflow resumes a task because its deferral took too long, not because a trigger fired.

    Airflow then names the pseudo method ``__fail__`` and says in ``error`` that a timeout is the reason: "Trigger
    timeout" (3.x) or "Trigger/execution timeout" (2.11). Any other failure of a trigger is not meant.

    :param next_method: As Airflow passes it to ``resume_execution``.
    :param next_kwargs: As Airflow passes it to ``resume_execution``.
    """
    return next_method == "__fail__" and "timeout" in str((next_kwargs or {}).get("error", "")).lower()
