"""What can go wrong with a request, and what an error looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

BodyKind: TypeAlias = Literal["json", "html", "empty"]

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"

_REASONS = {
    400: ("bad_request", "The request is not valid"),
    401: ("unauthorized", "Invalid or missing API key"),
    403: ("forbidden", "This operation requires a read-write key"),
    404: ("not_found", "Not found"),
    409: ("conflict", "A sync is already running for this integration"),
    429: ("rate_limited", "Too many requests"),
    500: ("internal_error", "Internal server error"),
    502: ("bad_gateway", "Bad gateway"),
    503: ("service_unavailable", "Service unavailable"),
    504: ("gateway_timeout", "Gateway timeout"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; ``note`` says what happened, for the record."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def error_answer(
    status: int,
    kind: BodyKind = "json",
    *,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
    note: str = "",
) -> Answer:
    """Return an error with the documented body, with the HTML of a proxy in between, or with nothing."""
    word, usual = _REASONS.get(status, (f"http_{status}", f"HTTP {status}"))
    body, content_type = {
        "json": (f'{{"error": "{word}", "message": "{message or usual}"}}', JSON_TYPE),
        "html": (f"<html><head><title>{status}</title></head><body><h1>{status} {word}</h1></body></html>", HTML_TYPE),
        "empty": ("", ""),
    }[kind]
    typed = {"Content-Type": content_type} if content_type else {}
    return Answer(status, body.encode(), {**typed, **(headers or {})}, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    Something that goes wrong with one request. Made by the class methods.

    :param name: what it is called in ``RecordedRequest.fault``.
    :param takes_effect: whether the request is carried out (a POST starts its sync).
    :param made_up: the answer that is sent instead of the honest one.
    :param is_dropped: whether the connection is closed instead.
    :param delay_before: seconds to wait before the request is carried out.
    :param delay_after: seconds to wait afterwards.
    :param retry_after_date: seconds from now that ``Retry-After`` names as an HTTP date.
    """

    name: str | None
    takes_effect: bool = False
    made_up: Answer | None = None
    is_dropped: bool = False
    delay_before: float = 0.0
    delay_after: float = 0.0
    retry_after_date: float | None = None

    @classmethod
    def answer(
        cls,
        status: int,
        body: BodyKind | bytes = "json",
        headers: Mapping[str, str] | None = None,
        *,
        takes_effect: bool = False,
    ) -> Fault:
        """
        Answer with a status of one's choice.

        :param status: the HTTP status.
        :param body: ``json`` (default; error and message as documented), ``html``, ``empty``, or the very bytes.
        :param headers: headers besides the content type; default none.
        :param takes_effect: whether the request is carried out nevertheless; default False.
        """
        if isinstance(body, bytes):
            content_type = JSON_TYPE if body[:1] in (b"{", b"[") else HTML_TYPE
            made_up = Answer(status, body, {"Content-Type": content_type, **(headers or {})})
        else:
            made_up = error_answer(status, body, headers=headers)
        return cls(name=f"answer {status}", made_up=made_up, takes_effect=takes_effect)

    @classmethod
    def rate_limited(
        cls, retry_after: float | str | None = 1, *, http_date_in: float | None = None, body: BodyKind = "json"
    ) -> Fault:
        """
        Answer 429.

        :param retry_after: its ``Retry-After``: seconds (default 1), any text, or None for no header.
        :param http_date_in: instead, an HTTP date that many seconds ahead of the server's clock.
        :param body: as for :meth:`answer`.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        made_up = error_answer(429, body, headers=headers)
        return cls(name="rate limited", made_up=made_up, retry_after_date=http_date_in)

    @classmethod
    def drop(cls) -> Fault:
        """Close the connection without an answer; the request is not carried out."""
        return cls(name="dropped", is_dropped=True)

    @classmethod
    def drop_after(cls) -> Fault:
        """Carry the request out, then close the connection without an answer: the ambiguous POST."""
        return cls(name="dropped after it took effect", takes_effect=True, is_dropped=True)

    @classmethod
    def slow(cls, seconds: float, *, after_effect: bool = True) -> Fault:
        """
        Answer honestly, but late.

        :param seconds: how late.
        :param after_effect: whether the pause comes after the request is carried out (default) or before.
        """
        if after_effect:
            return cls(name="slow answer", takes_effect=True, delay_after=seconds)
        return cls(name="slow, before it took effect", takes_effect=True, delay_before=seconds)


NO_FAULT = Fault(name=None, takes_effect=True)


@dataclass(slots=True)
class FaultRule:
    """A fault that waits for its requests; the parameters are those of ``Simulator.fail``."""

    fault: Fault
    method: str | None = None
    path: str | None = None
    times: int | None = None
    after: int = 0

    def take(self, method: str, path: str) -> bool:
        """Return whether this request goes wrong, and count it."""
        if self.times == 0 or self.method not in (None, method):
            return False
        if self.path is not None and not fnmatchcase(path, self.path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True
