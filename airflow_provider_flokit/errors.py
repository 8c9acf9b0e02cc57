"""
Everything that can go wrong, as a tree.

::

    FlokitError                            (AirflowException)
    ├── FlokitPermanentError               (AirflowFailException): no retry can mend it, none is spent on it
    │   ├── FlokitConfigError              the Airflow connection is missing something or has a wrong value
    │   ├── FlokitArgumentError            (ValueError) a parameter is wrong, or rendered to something wrong
    │   ├── FlokitAuthenticationError      401: the API key is wrong, or was rotated away
    │   ├── FlokitPermissionError          403: the key may not do this
    │   ├── FlokitNotFoundError            404, or no integration of that id or type
    │   ├── FlokitAmbiguousTypeError       several integrations of that type
    │   └── FlokitRequestError             400 and other statuses that mean "do not repeat this"
    ├── FlokitAPIError                     the API could not be asked; a later attempt may succeed
    │   ├── FlokitUnreachableError         no answer: refused, dropped, timed out, DNS, TLS
    │   ├── FlokitRateLimitError           429
    │   ├── FlokitServerError              500, 502, 503, 504
    │   └── FlokitResponseError            an answer, but not the documented JSON
    ├── FlokitConnectionNotFoundError      Airflow finds no such connection, or its secrets backend does not answer
    ├── FlokitSyncAlreadyRunningError      409: a sync of this integration is running already
    ├── FlokitSyncFailedError              the integration is in error: the sync failed, not the API
    │   └── FlokitDisconnectedError        the integration is disconnected: nothing will sync
    └── FlokitWaitTimeoutError             an operator's wait ran out of time (a sensor: AirflowSensorTimeout)

A retry of the task makes sense for everything below :class:`FlokitError` but :class:`FlokitPermanentError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from datetime import datetime

SHOWN_LENGTH = 500
"""Characters of a text from outside that a message shows at most."""

MESSAGE_LENGTH = 10_000
"""Characters of a whole message at most, however many integrations it has to name."""


class FlokitError(AirflowException):
    """
    Root of everything this package raises.

    :param message: What happened and what to do; cut at 10,000 characters.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(cut(message, MESSAGE_LENGTH))


class FlokitPermanentError(FlokitError, AirflowFailException):
    """A failure that no retry can mend; Airflow fails the task without spending retries on it."""


class FlokitConfigError(FlokitPermanentError):
    """The Airflow connection lacks something or has a value that cannot be used."""


class FlokitArgumentError(FlokitPermanentError, ValueError):
    """A parameter has a wrong value, or its template rendered to one."""


class FlokitAPIError(FlokitError):
    """
    The API could not be asked, or its answer could not be used; a later attempt may succeed.

    :param message: What happened and what to do.
    :param retry_after: Seconds after which the server asked to come back, None if it did not.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FlokitAuthenticationError(FlokitPermanentError):
    """FloKit does not accept the API key (HTTP 401)."""


class FlokitPermissionError(FlokitPermanentError):
    """The API key may not do this (HTTP 403), e.g. a read-only key triggers a sync."""


class FlokitNotFoundError(FlokitPermanentError):
    """There is no such integration, or nothing at that URL (HTTP 404)."""


class FlokitAmbiguousTypeError(FlokitPermanentError):
    """Several integrations have the given type; an id has to say which one."""


class FlokitRequestError(FlokitPermanentError):
    """FloKit refused the request (HTTP 400 and other statuses that a repeat does not change)."""


class FlokitUnreachableError(FlokitAPIError):
    """No answer: connection refused or dropped, a timeout, DNS or TLS trouble."""


class FlokitRateLimitError(FlokitAPIError):
    """Too many requests (HTTP 429)."""


class FlokitServerError(FlokitAPIError):
    """The API failed (HTTP 500, 502, 503, 504)."""


class FlokitResponseError(FlokitAPIError):
    """The API answered with something other than its documented JSON."""


class FlokitConnectionNotFoundError(FlokitError):
    """Airflow finds no such connection. A secrets backend that is away looks the same, so a retry may mend it."""


class FlokitSyncAlreadyRunningError(FlokitError):
    """
    A sync of the integration is running already (HTTP 409).

    :param message: What happened and what to do.
    :param at: FloKit's time when it said so, None if that is not known.
    """

    def __init__(self, message: str, *, at: datetime | None = None) -> None:
        super().__init__(message)
        self.at = at


class FlokitSyncFailedError(FlokitError):
    """The integration is in error: its sync failed. A retry of the task starts a new sync."""


class FlokitDisconnectedError(FlokitSyncFailedError):
    """The integration is disconnected: nothing will sync until it is connected again in FloKit."""


class FlokitWaitTimeoutError(FlokitError):
    """An operator's wait ran out of time. From Airflow 3.3 a retry waits on for the same sync."""


def shown(text: object) -> str:
    """Return a text from outside so that it can stand in a message: one line, printable, cut at 500 characters."""
    return cut(escaped(" ".join(str(text)[: SHOWN_LENGTH * 4].split())), SHOWN_LENGTH)


def escaped(text: str) -> str:
    """Return a text in which nothing acts on a terminal or hides; line breaks and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def cut(text: str, length: int) -> str:
    """Return a text of so many characters at most, with an ellipsis at its end if it was longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
