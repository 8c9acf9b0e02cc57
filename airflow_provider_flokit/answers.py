"""
What an answer means: the value it brings, or the error that says what happened and what to do.

Pure. Errors are raised outside of handlers, and from what shows no answer: a traceback may show local variables, and a
server may have repeated the API key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import (
    SHOWN_LENGTH,
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitRateLimitError,
    FlokitRequestError,
    FlokitResponseError,
    FlokitServerError,
    FlokitSyncAlreadyRunningError,
    FlokitUnreachableError,
    shown,
)
from airflow_provider_flokit.models import MalformedDataError
from airflow_provider_flokit.payloads import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.connection import FlokitConnection
    from airflow_provider_flokit.steps import Answer, TransportError

_SUCCESS: Final = 2  # the first digit
_EXPECTED: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED})
_SOURCE_LIMIT: Final = 64 * 1024
_CUT_LENGTH: Final = 64  # nothing shorter is ever cut

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """
    Reads the answers to one request, and words what is wrong with them.

    :param connection: The settings.
    :param doing: What the request is for, e.g. ``listing the integrations``.
    """

    connection: FlokitConnection
    doing: str

    def read(self, answer: Answer, parse: Callable[[bytes], T]) -> T:
        """
        Return what an answer brings.

        :param answer: The answer, which is no redirect to be followed.
        :param parse: Reads the body; see :mod:`airflow_provider_flokit.payloads`.
        :raises FlokitError: if it is no success, or not the documented one
        """
        if answer.status // 100 != _SUCCESS:
            raise self._refusal(answer)
        if answer.status not in _EXPECTED:
            raise self.malformed(answer, "FloKit has no such success")
        if answer.problem:
            raise self.malformed(answer, f"the body cannot be used: {answer.problem}")
        try:
            return parse(answer.body)
        except (ValueError, RecursionError) as error:
            # In no variable: tracebacks may show those.
            failure = (
                self.malformed(answer, str(error), Source(answer.body))
                if isinstance(error, MalformedDataError)
                else self.malformed(answer, "the body is not JSON")
            )
        raise failure  # outside of the handler: the context of the error would hold the body

    def malformed(self, answer: Answer, detail: str, source: Source | None = None) -> FlokitResponseError:
        """
        Say what is wrong with a success.

        :param answer: The answer.
        :param detail: What is wrong, maybe with words of the answer, which may be cut.
        :param source: Where those words are from; None if there are none.
        """
        body = b"" if source is None else source.body
        if len(body) > _SOURCE_LIMIT:
            if len(detail) >= _CUT_LENGTH:  # so what it quotes may be cut
                detail = "a value in it is too long to be shown"
        elif self.connection.redact(text := body.decode(errors="replace")) != text:
            detail = "it repeats the API key or a proxy's password, so no more of it is shown"
        what = f"HTTP {answer.status}, but not the documented answer: {detail}"
        return FlokitResponseError(self.message(what, "Check that the connection's API URL (host) is FloKit's API"))

    def unanswered(self, error: TransportError) -> FlokitUnreachableError:
        """
        Say that no answer came.

        :param error: Why.
        """
        what = f"no answer from {self.connection.base_url}: {error}"
        todo = "Check the connection's API URL (host), the network and FloKit's status"
        return FlokitUnreachableError(self.message(what, todo))

    def message(self, what: str, todo: str) -> str:
        """
        Return a message of the one form that all have, without secrets.

        :param what: What happened.
        :param todo: What to do about it.
        """
        text = f"FloKit, {self.doing} (connection {self.connection.conn_id!r}): {what}. {todo}."
        return self.connection.redact(text)

    def _refusal(self, answer: Answer) -> FlokitError:
        status = answer.status
        said = f"HTTP {status}{self._said(answer)}"
        conn = f"connection {self.connection.conn_id!r}"
        if status == HTTPStatus.UNAUTHORIZED:
            todo = f"Put a valid API key into {conn} (a key dies at once when it is rotated)"
            return FlokitAuthenticationError(self.message(said, todo))
        if status == HTTPStatus.FORBIDDEN:
            todo = f"The key of {conn} may not do this; triggering a sync needs a read-write key"
            return FlokitPermissionError(self.message(said, todo))
        if status == HTTPStatus.NOT_FOUND:
            todo = "Check the integration's id and that the key belongs to its workspace"
            return FlokitNotFoundError(self.message(said, todo))
        if status == HTTPStatus.CONFLICT:
            todo = "A sync is running already; wait for it"
            return FlokitSyncAlreadyRunningError(self.message(said, todo), at=answer.server_time)
        if not retry.is_retried(status):
            todo = "A repeat would not change this; check the request and the connection's API URL (host)"
            return FlokitRequestError(self.message(said, todo))
        retry_after = retry.parse_retry_after(answer.headers.get("retry-after"), answer.server_time)
        todo = "Try again later" if retry_after is None else f"Try again in {retry_after:.0f} s, as FloKit asks"
        kind: type[FlokitAPIError] = (
            FlokitRateLimitError if status == HTTPStatus.TOO_MANY_REQUESTS else FlokitServerError
        )
        return kind(self.message(said, todo), retry_after=retry_after)

    def _said(self, answer: Answer) -> str:
        """Return FloKit's own words; a body that is not the documented error object says nothing useful."""
        try:
            data = json.loads(answer.body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return ""
        fields: dict[str, Any] = data if isinstance(data, dict) else {}
        message = fields.get("message") or fields.get("error")
        if not isinstance(message, str) or not message.strip():
            return ""
        return f": {shown(self.connection.redact_start(message, 4 * SHOWN_LENGTH)).rstrip('.')}"
