"""Faults of a request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.client import responses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MESSAGES = {
    400: "The request is not valid",
    401: "Invalid or missing API key",
    403: "This operation requires a read-write key",
    409: "A sync is already running for this integration",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to send, and a note for the record of requests."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def error_body(status: int, kind: str = "json") -> bytes:
    """Return the documented body of an error, the HTML of a proxy (``html``), or nothing (``empty``)."""
    phrase = responses.get(status, f"HTTP {status}")
    if kind == "json":
        message = _MESSAGES.get(status, phrase.capitalize())
        return json.dumps({"error": phrase.lower().replace(" ", "_"), "message": message}).encode()
    return f"<html><body><h1>{status} {phrase}</h1></body></html>".encode() if kind == "html" else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one request. Make it with the class methods."""

    name: str = ""
    takes_effect: bool = True
    made_up: Answer | None = None
    is_dropped: bool = False
    delay_before: float = 0.0
    delay_after: float = 0.0

    @classmethod
    def answer(cls, status: int, body: str | bytes = "json", headers: Mapping[str, str] | None = None) -> Fault:
        """
        Answer with this status; the request is not carried out.

        :param status: the HTTP status.
        :param body: ``json`` (default; error and message as documented), ``html``, ``empty``, or the bytes themselves.
        :param headers: headers of the answer; default none.
        """
        content = body if isinstance(body, bytes) else error_body(status, body)
        return cls(name=f"answer {status}", takes_effect=False, made_up=Answer(status, content, headers or {}))

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = 1) -> Fault:
        """
        Answer 429.

        :param retry_after: the ``Retry-After`` header: seconds (default 1), any text, or None for no header.
        """
        return cls.answer(429, headers={} if retry_after is None else {"Retry-After": str(retry_after)})

    @classmethod
    def drop(cls) -> Fault:
        """Close the connection without an answer; the request is not carried out."""
        return cls(name="dropped", takes_effect=False, is_dropped=True)

    @classmethod
    def drop_after(cls) -> Fault:
        """Carry the request out, then close the connection without an answer: after a POST, a sync has started."""
        return cls(name="dropped after it took effect", is_dropped=True)

    @classmethod
    def slow(cls, seconds: float, *, after_effect: bool = True) -> Fault:
        """
        Answer correctly, but late.

        :param seconds: how late.
        :param after_effect: whether the pause comes after the request is carried out (default) or before.
        """
        if after_effect:
            return cls(name="slow answer", delay_after=seconds)
        return cls(name="slow, before it took effect", delay_before=seconds)


@dataclass(slots=True)
class FaultRule:
    """A fault and the requests that it is for; see the parameters of ``Simulator.fail``."""

    fault: Fault
    method: str | None = None
    path: str | None = None
    times: int | None = None
    after: int = 0

    def take(self, method: str, path: str) -> bool:
        """Return whether this request gets the fault, and count it."""
        if self.times == 0 or self.method not in (None, method) or not fnmatchcase(path, self.path or "*"):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True
