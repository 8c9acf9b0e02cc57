"""
Which events does a move of an integration from one state to another make? The one place that decides it.

Pure functions over values: no I/O, no clock, no logging, no Airflow. A watcher remembers a :class:`Memory` of its
integration; what it sees next is compared with it. The two mistakes forbidden here: an event for what was told
already, also if FloKit's answers go back and forth in time, and an event for what was there before anybody watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_flokit.errors import FlokitArgumentError, shown
from airflow_provider_flokit.models import IntegrationStatus, MalformedDataError, parse_time, timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_flokit.models import Integration


class Event(StrEnum):
    """What can happen to an integration."""

    SYNCED = "synced"
    ERROR = "error"


WATCHED = {"synced": (Event.SYNCED,), "error": (Event.ERROR,), "any": (Event.SYNCED, Event.ERROR)}
"""The events that each value of a watcher's ``on`` asks for."""


def checked_on(on: object) -> str:
    """
    Return what a watcher is to tell of.

    :param on: What the user gave.
    :raises FlokitArgumentError: if it is none of ``synced``, ``error`` and ``any``
    """
    if not isinstance(on, str) or on not in WATCHED:
        raise FlokitArgumentError(f"on is {shown(repr(on))}: give 'synced', 'error' or 'any'.")
    return str(on)


@dataclass(frozen=True, slots=True)
class Memory:
    """
    What a watcher remembers of its integration.

    :param last_synced_at: The latest success that was seen, None if there was none.
    :param error: What is wrong if the integration is in error (cut for display), None if it is not.
    """

    last_synced_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, now: Integration, before: Memory | None, on: str) -> Self:
        """
        Return what to remember after a look.

        :param now: The integration as it is now.
        :param before: What was remembered until now; None at the first look.
        :param on: What the watcher is to tell of; nothing else is remembered, so that nothing else needs saving.
        """
        if before is not None and is_older(now, before):
            return cls(before.last_synced_at, before.error)
        remembered = None if before is None else before.last_synced_at
        times = [time for time in (now.last_synced_at, remembered) if time is not None]
        in_error = Event.ERROR in WATCHED[on] and now.status == IntegrationStatus.ERROR
        return cls(max(times, default=None), shown(now.error_message or "") if in_error else None)

    @classmethod
    def from_json(cls, data: object) -> Self | None:
        """
        Read what :meth:`to_json` wrote.

        :param data: Anything; a watcher's store may be edited by hand.
        :return: None if it is no memory
        """
        if not isinstance(data, dict):
            return None
        time, error = data.get("last_synced_at"), data.get("error")
        if not (time is None or isinstance(time, str)) or not (error is None or isinstance(error, str)):
            return None
        try:
            return cls(None if time is None else parse_time(time), error)
        except MalformedDataError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the memory as JSON values."""
        time = self.last_synced_at
        return {"last_synced_at": None if time is None else time.isoformat(), "error": self.error}


def happened(before: Memory | None, now: Integration, on: str) -> tuple[Event, ...]:
    """
    Decide what has happened since the last look.

    ============ ==========================================================================================
    event        happened if
    ============ ==========================================================================================
    ``synced``   ``last_synced_at`` moved past what is remembered, or is set where none was, whatever the
                 status is by now: only a success moves it
    ``error``    the status is ``error``, and it is another error than the one remembered: there was none,
                 the message is another one, or a sync has succeeded in between; never in an answer from
                 before what is remembered
    ============ ==========================================================================================

    :param before: What is remembered; None at the first look, which only sets the mark.
    :param now: The integration as it is now.
    :param on: ``synced``, ``error`` or ``any``.
    :return: the events, the success before the failure that followed it
    """
    if before is None:
        return ()
    then = before.last_synced_at
    if is_older(now, before):
        return ()
    synced = now.last_synced_at is not None and (then is None or now.last_synced_at > then)
    error = Memory.of(now, before, on).error
    failed = error is not None and (synced or error != before.error)
    found = {Event.SYNCED: synced, Event.ERROR: failed}
    return tuple(event for event in WATCHED[on] if found[event])


def is_older(now: Integration, before: Memory) -> bool:
    """
    Tell whether an answer is from before what is remembered: ``last_synced_at`` never goes back by itself.

    :param now: The integration as the answer has it.
    :param before: What is remembered.
    """
    then = before.last_synced_at
    return then is not None and (now.last_synced_at is None or now.last_synced_at < then)


def latest(memories: list[Memory]) -> Memory | None:
    """
    Return the memory that has seen most; the assets that share one watcher may not have been saved alike.

    :param memories: One for each asset that has one.
    """
    # Of equals, one in error: its error was told of.
    ranked = sorted(memories, key=lambda m: (m.last_synced_at is not None, m.last_synced_at, m.error is not None))
    return ranked[-1] if ranked else None


def payload(event: Event, before: Memory, now: Integration) -> dict[str, Any]:
    """
    Return what an asset event tells.

    :param event: What happened.
    :param before: What was remembered.
    :param now: The integration as it is now.
    :return: ``event``, ``integration_id``, ``last_synced_at``, ``previous_synced_at``, ``error_message``, and the whole
        state under ``integration``, as JSON values
    """
    state = now.to_json()
    return {
        "event": str(event),
        "integration_id": now.id,
        "last_synced_at": state["last_synced_at"],
        "previous_synced_at": timestamp(before.last_synced_at),
        "error_message": state["error_message"],
        "integration": state,
    }
