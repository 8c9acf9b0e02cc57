"""
The exceptions of this package.

::

    FlokitError                            (AirflowException)
    ├── FlokitPermanentError               (AirflowFailException) a retry cannot help, so Airflow does not retry
    │   ├── FlokitConfigError              a field of the Airflow connection is missing or wrong
    │   ├── FlokitArgumentError            (ValueError) a parameter is wrong, or rendered to something wrong
    │   ├── FlokitAuthenticationError      401: the API key is wrong, or was replaced
    │   ├── FlokitPermissionError          403: the key may not do this
    │   ├── FlokitNotFoundError            404, or no integration with that id or type
    │   ├── FlokitAmbiguousTypeError       several integrations with that type
    │   └── FlokitRequestError             400 and other statuses that a repeat does not change
    ├── FlokitAPIError                     the API could not be asked; a later attempt may succeed
    │   ├── FlokitUnreachableError         no answer: refused, dropped, timed out, DNS, TLS
    │   ├── FlokitRateLimitError           429
    │   ├── FlokitServerError              500, 502, 503, 504
    │   └── FlokitResponseError            an answer, but not the documented JSON
    ├── FlokitConnectionNotFoundError      Airflow does not find the connection, or its secrets backend does not answer
    ├── FlokitSyncAlreadyRunningError      409: a sync of this integration is running already
    ├── FlokitSyncFailedError              the integration is in error: the sync failed, not the API
    │   └── FlokitDisconnectedError        the integration is disconnected: nothing will sync
    └── FlokitWaitTimeoutError             an operator's wait timed out (a sensor raises AirflowSensorTimeout)

A retry of the task can help with all of them, except with a :class:`FlokitPermanentError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from datetime import datetime

SHOWN_LENGTH = 500
"""The longest text from outside that a message shows, in characters."""


class FlokitError(AirflowException):
    """
    Root of all exceptions of this package.

    :param message: What happened and what to do.
    :param retry_after: Seconds that FloKit asked to wait; None if it did not.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FlokitPermanentError(FlokitError, AirflowFailException):
    """A retry cannot help; Airflow fails the task at once and does not retry."""


class FlokitConfigError(FlokitPermanentError):
    """A field of the Airflow connection is missing or wrong."""


class FlokitArgumentError(FlokitPermanentError, ValueError):
    """A parameter has a wrong value, or its template rendered to one."""


class FlokitAPIError(FlokitError):
    """The API could not be asked, or its answer could not be used; a later attempt may succeed."""


class FlokitAuthenticationError(FlokitPermanentError):
    """FloKit does not accept the API key (HTTP 401)."""


class FlokitPermissionError(FlokitPermanentError):
    """The API key may not do this (HTTP 403), e.g. a read-only key may not trigger a sync."""


class FlokitNotFoundError(FlokitPermanentError):
    """There is no such integration, or nothing at that URL (HTTP 404)."""


class FlokitAmbiguousTypeError(FlokitPermanentError):
    """Several integrations have the given type; give an id instead."""


class FlokitRequestError(FlokitPermanentError):
    """FloKit refused the request (HTTP 400 and other statuses that a repeat does not change)."""


class FlokitUnreachableError(FlokitAPIError):
    """No answer: connection refused or dropped, a timeout, a DNS or TLS problem."""


class FlokitRateLimitError(FlokitAPIError):
    """Too many requests (HTTP 429)."""


class FlokitServerError(FlokitAPIError):
    """The API failed (HTTP 500, 502, 503, 504)."""


class FlokitResponseError(FlokitAPIError):
    """The API answered with something other than its documented JSON."""


class FlokitConnectionNotFoundError(FlokitError):
    """Airflow does not find the connection. A retry may help: a secrets backend that is down looks the same."""


class FlokitSyncAlreadyRunningError(FlokitError):
    """
    A sync of the integration is running already (HTTP 409).

    :param message: What happened and what to do.
    :param at: FloKit's time when it answered; None if that is not known.
    """

    def __init__(self, message: str, *, at: datetime | None = None) -> None:
        super().__init__(message)
        self.at = at


class FlokitSyncFailedError(FlokitError):
    """The integration is in error: its sync failed. A retry of the task starts a new sync."""


class FlokitDisconnectedError(FlokitSyncFailedError):
    """The integration is disconnected: nothing will sync until it is connected again in FloKit."""


class FlokitWaitTimeoutError(FlokitError):
    """An operator's wait timed out. From Airflow 3.3 a retry waits for the same sync."""


def shown(text: object) -> str:
    """Make a text from outside fit for a message: one line, printable, cut at 500 characters."""
    line = escaped(" ".join(str(text).split()))
    return line if len(line) <= SHOWN_LENGTH else f"{line[: SHOWN_LENGTH - 1]}…"


def escaped(text: str) -> str:
    """Replace characters that are invisible or control a terminal; line breaks and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
