"""
How a wait ended, as a value that travels from the trigger to the task.

Every mode of waiting ends with an :class:`Outcome`, and every outcome is turned into an exception here, so that all
modes come to the same end in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import FlokitError, FlokitWaitTimeoutError, shown
from airflow_provider_flokit.models import Integration


class Ending(StrEnum):
    """How a wait ended."""

    READY = "ready"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The end of a wait.

    :param ending: How it ended.
    :param integrations: The last state seen of each integration, in the order they were asked for.
    :param message: What to tell the user if it is not ready.
    :param error: Name of the exception class if it failed.
    """

    ending: Ending
    integrations: tuple[Integration, ...] = ()
    message: str = ""
    error: str = ""

    @classmethod
    def of_error(cls, error: FlokitError, integrations: tuple[Integration, ...] = ()) -> Self:
        """
        Make a failed outcome of an exception.

        :param error: What went wrong.
        :param integrations: The last states seen.
        """
        return cls(Ending.FAILED, integrations, str(error), type(error).__name__)

    @classmethod
    def from_event(cls, event: object) -> Self:
        """
        Read the outcome from a trigger's event.

        :param event: The payload.
        :raises FlokitError: if it is none of ours
        """
        try:
            fields: dict[str, Any] = dict(event)  # type: ignore[call-overload]
            ending = Ending(fields["ending"])
            states = tuple(Integration.from_json(state) for state in fields["integrations"])
            outcome = cls(ending, states, str(fields["message"]), str(fields["error"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FlokitError(f"The trigger sent an event that is not understood: {shown(repr(event))}") from error
        if ending is Ending.FAILED:
            outcome.exception()
        return outcome

    def to_event(self) -> dict[str, Any]:
        """Return the outcome as a trigger's event payload."""
        return {
            "ending": str(self.ending),
            "integrations": [integration.to_json() for integration in self.integrations],
            "message": self.message,
            "error": self.error,
        }

    def exception(self) -> FlokitError:
        """
        Return the exception that tells of an outcome that is not ready.

        :raises FlokitError: if the outcome names no exception of this package
        """
        if self.ending is Ending.TIMED_OUT:
            return FlokitWaitTimeoutError(self.message)
        kind = getattr(errors, self.error, None)
        if not (isinstance(kind, type) and issubclass(kind, FlokitError)):
            raise FlokitError(f"The trigger sent an event with an unknown error: {shown(self.error)!r}")
        return kind(self.message)
