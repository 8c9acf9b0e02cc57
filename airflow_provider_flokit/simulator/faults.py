"""Faults that a simulator plays on demand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_provider_flokit.simulator.rendering import HTML_TYPE, JSON_TYPE, error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_flokit.simulator.switches import BodyKind

Action: TypeAlias = Literal[
    "answer", "drop", "reset", "raw", "close_in_headers", "close_in_body", "truncate", "trickle", "trickle_headers",
    "slow", "compress", "bomb", "large_body", "redirect_loop",
]  # fmt: skip

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    Something that goes wrong with one request. Made by the class methods.

    :param name: what it is called in ``RecordedRequest.fault``.
    :param action: how it is played.
    :param takes_effect: whether the request is carried out (a POST starts its sync) all the same.
    :param code: the HTTP status of a made-up answer.
    :param body: its body; or all bytes that are sent, head included.
    :param headers: its headers, as pairs.
    :param retry_after_date: seconds from now that its ``Retry-After`` names, as an HTTP date by the server's
        clock.
    :param seconds: how slow it is.
    :param size: bytes per chunk, or of a large body.
    """

    name: str
    action: Action
    takes_effect: bool = False
    code: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    retry_after_date: float | None = None
    seconds: float = 0.0
    size: int = 0

    @classmethod
    def answer(
        cls,
        code: int,
        body: BodyKind | bytes = "json",
        headers: Mapping[str, str] | None = None,
        *,
        takes_effect: bool = False,
    ) -> Fault:
        """
        Answer with a status of one's choice.

        :param code: the HTTP status.
        :param body: ``json`` (default; error and message as documented), ``html``, ``empty``, or the very
            bytes.
        :param headers: headers besides the content type.
        :param takes_effect: whether the request is carried out nevertheless; default False.
        """
        if isinstance(body, bytes):
            content, content_type = body, JSON_TYPE if body[:1] in (b"{", b"[") else HTML_TYPE
        else:
            content, content_type = error_body(body, code, *_REASONS.get(code, (f"http_{code}", f"HTTP {code}")))
        return cls(
            name=f"answer {code}",
            action="answer",
            takes_effect=takes_effect,
            code=code,
            body=content,
            headers=_pairs(headers, content_type),
        )

    @classmethod
    def rate_limited(
        cls,
        retry_after: float | str | None = 1,
        *,
        http_date_in: float | None = None,
        body: BodyKind = "json",
    ) -> Fault:
        """
        Answer 429.

        :param retry_after: its ``Retry-After``: seconds (default 1), any text (absurd ones too), or None for
            no header.
        :param http_date_in: instead, an HTTP date that many seconds ahead of the server's clock.
        :param body: as for :meth:`answer`.
        """
        content, content_type = error_body(body, 429, *_REASONS[429])
        headers = {} if retry_after is None or http_date_in is not None else {"Retry-After": f"{retry_after}"}
        pairs = _pairs(headers, content_type)
        return cls(
            name="rate limited",
            action="answer",
            code=429,
            body=content,
            headers=pairs,
            retry_after_date=http_date_in,
        )

    @classmethod
    def drop(cls) -> Fault:
        """Close the connection without an answer; the request is not carried out."""
        return cls(name="dropped", action="drop")

    @classmethod
    def drop_after(cls) -> Fault:
        """Carry the request out, then close the connection without an answer: the ambiguous POST."""
        return cls(name="dropped after it took effect", action="drop", takes_effect=True)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection (RST) without an answer; the request is not carried out."""
        return cls(name="reset", action="reset")

    @classmethod
    def raw(cls, content: bytes) -> Fault:
        """
        Send these very bytes, whether they are HTTP or not, and close the connection.

        :param content: what to send, head included.
        """
        return cls(name="raw bytes", action="raw", body=content)

    @classmethod
    def close_in_headers(cls) -> Fault:
        """Carry the request out, then close the connection in the middle of the answer's headers."""
        return cls(name="closed in the headers", action="close_in_headers", takes_effect=True)

    @classmethod
    def close_in_body(cls) -> Fault:
        """Carry the request out, then close the connection half way through the announced body."""
        return cls(name="closed in the body", action="close_in_body", takes_effect=True)

    @classmethod
    def truncated_body(cls) -> Fault:
        """Carry the request out, then send half of its JSON, announced as if that were all."""
        return cls(name="truncated body", action="truncate", takes_effect=True)

    @classmethod
    def trickle(cls, seconds: float = 0.05, size: int = 16) -> Fault:
        """
        Carry the request out, then send the body in small pieces.

        :param seconds: the pause after each piece; default 0.05.
        :param size: bytes per piece; default 16.
        """
        return cls(name="trickling body", action="trickle", takes_effect=True, seconds=seconds, size=max(1, size))

    @classmethod
    def trickling_headers(cls, seconds: float = 0.05) -> Fault:
        """
        Carry the request out, then send header after header, byte by byte, without end.

        :param seconds: the pause after each byte; default 0.05.
        """
        return cls(name="trickling headers", action="trickle_headers", takes_effect=True, seconds=seconds)

    @classmethod
    def slow(cls, seconds: float, *, after_effect: bool = True) -> Fault:
        """
        Answer honestly, but late.

        :param seconds: how late.
        :param after_effect: whether it waits after carrying the request out (default) or before.
        """
        name = "slow answer" if after_effect else "slow, before it took effect"
        return cls(name=name, action="slow", takes_effect=after_effect, seconds=seconds)

    @classmethod
    def wrong_shape(cls, document: Any = None, *, takes_effect: bool = False) -> Fault:
        """
        Answer 200 with JSON of another shape than documented.

        :param document: the JSON value; default ``{"data": []}``.
        :param takes_effect: as for :meth:`answer`.
        """
        body = json.dumps({"data": []} if document is None else document).encode()
        pairs = _pairs({}, JSON_TYPE)
        return cls(name="wrong shape", action="answer", takes_effect=takes_effect, body=body, headers=pairs)

    @classmethod
    def invalid_utf8(cls) -> Fault:
        """Answer 200 with JSON whose text is not UTF-8."""
        body = b'{"integrations": [{"id": "\xff\xfe", "type": "stripe"}]}'
        return cls(name="invalid UTF-8", action="answer", body=body, headers=_pairs({}, JSON_TYPE))

    @classmethod
    def compressed(cls, encoding: str = "gzip") -> Fault:
        """
        Carry the request out and answer honestly, but compressed, whether the client accepts that or not.

        :param encoding: ``gzip`` (default) or ``deflate``, or several of them, separated by commas.
        """
        return cls(name=f"compressed: {encoding}", action="compress", takes_effect=True, headers=_encoded(encoding))

    @classmethod
    def gzip_bomb(cls, megabytes: int = 50, encoding: str = "gzip") -> Fault:
        """
        Answer 200 with a small compressed body that unpacks to a huge one (valid JSON, an empty list and blanks).

        :param megabytes: its unpacked size; default 50.
        :param encoding: as for :meth:`compressed`; ``gzip, gzip`` is a bomb within a bomb.
        """
        return cls(name=f"{encoding} bomb", action="bomb", size=megabytes << 20, headers=_encoded(encoding))

    @classmethod
    def large_body(cls, megabytes: int = 50) -> Fault:
        """
        Answer 200 with a huge body (valid JSON, an empty list and blanks).

        :param megabytes: its size; default 50.
        """
        return cls(name="large body", action="large_body", size=megabytes << 20)

    @classmethod
    def redirect(cls, url: str, code: int = 302) -> Fault:
        """
        Answer with a redirect.

        :param url: where to.
        :param code: 301, 302 (default), 303, 307 or 308.
        """
        return cls(name=f"redirect {code}", action="answer", code=code, headers=(("Location", url),))

    @classmethod
    def redirect_loop(cls, code: int = 302) -> Fault:
        """
        Answer with a redirect that leads to another, without end.

        :param code: as for :meth:`redirect`.
        """
        return cls(name=f"redirect loop {code}", action="redirect_loop", code=code)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Fault:
        """
        Return the fault that :func:`~airflow_provider_flokit.simulator.records.to_jsonable` wrote.

        :param document: its JSON form.
        """
        headers = tuple((str(name), str(value)) for name, value in document.get("headers", ()))
        return cls(**{**document, "body": str(document.get("body", "")).encode("latin-1"), "headers": headers})


def _encoded(encoding: str) -> tuple[tuple[str, str], ...]:
    if {name.strip() for name in encoding.split(",")} - {"gzip", "deflate"}:
        msg = f"encoding must be gzip or deflate, or several of them separated by commas, not {encoding!r}"
        raise ValueError(msg)
    return (("Content-Encoding", encoding),)


def _pairs(headers: Mapping[str, str] | None, content_type: str) -> tuple[tuple[str, str], ...]:
    return tuple({"Content-Type": content_type, **(headers or {})}.items() if content_type else (headers or {}).items())
