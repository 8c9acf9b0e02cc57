"""
What a call asks of the hook that performs it, step by step, and what it gets back.

A :data:`Call` is a generator: it yields steps (send this, pause, re-read the connection), is sent their results, and
returns a model or raises one of the package's errors.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from airflow_provider_flokit.models import as_utc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send one request, once. The result of this step is an :class:`Answer`, or a :class:`TransportError` is thrown.

    :param method: HTTP method.
    :param path: Path and query; the performer puts the base URL before it.
    :param headers: Headers beside those every request carries.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """
    Sleep before the next attempt. The result of this step is None.

    :param seconds: How long.
    :param reason: Why another attempt is needed.
    """

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Re-read the Airflow connection. The result of this step is the new :class:`FlokitConnection`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back.

    :param status: HTTP status.
    :param headers: Headers, names in lower case.
    :param body: The body, decompressed; empty if it cannot be used.
    :param problem: Why the body cannot be used, empty if it can.
    """

    status: int
    # In no repr: a server may have repeated the API key there.
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    problem: str = ""

    @property
    def server_time(self) -> datetime:
        """Time of the answer by the server's ``Date`` header; this machine's clock where there is none."""
        try:
            return as_utc(parsedate_to_datetime(self.headers["date"]))
        except (KeyError, ValueError, TypeError, IndexError, OverflowError):
            return datetime.now(tz=UTC)


class TransportError(Exception):
    """Raised by a transport when no answer came; the message says why, without any secret."""


Call = Generator[Send | Pause | Reload, Any, T]
