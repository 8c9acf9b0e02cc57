"""
FloKit's API without I/O: what to send, when to repeat it, and what comes of it.

Every call is a :data:`~airflow_provider_flokit.steps.Call`. The two hooks differ only in how they perform its steps, so
that requests and aiohttp cannot come to different outcomes.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from airflow_provider_flokit import redirects, retry
from airflow_provider_flokit.answers import AnswerReader
from airflow_provider_flokit.arguments import one_text
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermanentError,
    FlokitRateLimitError,
    FlokitRequestError,
    shown,
)
from airflow_provider_flokit.identifiers import checked_header, checked_id
from airflow_provider_flokit.payloads import harmless, parse_integration, parse_list, parse_sync_id, parse_whole_list
from airflow_provider_flokit.snapshot import Snapshot, Unread
from airflow_provider_flokit.steps import Pause, Reload, Send, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_flokit.connection import FlokitConnection
    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.payloads import MalformedEntry
    from airflow_provider_flokit.steps import Answer, Call

LIST_PATH: Final = "/v1/integrations"
_LISTING: Final = "listing the integrations"

T = TypeVar("T")


@dataclass(slots=True)
class LastList:
    """
    The last list that was looked at; a workspace seldom changes from one poll to the next.

    :param body: The answer's body.
    :param snapshot: What it was made into.
    """

    # As the server sent it: in no repr.
    body: bytes | None = field(default=None, repr=False)
    snapshot: Snapshot | None = None


class FlokitAPI:
    """
    The calls of FloKit's API over one connection.

    :param connection: The settings.
    :param last: The last list of an earlier look, which need not be parsed again if nothing has changed.
    """

    def __init__(self, connection: FlokitConnection, last: LastList | None = None) -> None:
        self.connection = connection
        self._last = last or LastList()

    def list_integrations(self) -> Call[list[Integration]]:
        """List all integrations of the workspace."""
        snapshot = yield from self._whole_list()
        return list(snapshot.integrations.values())

    def get_integration(self, integration_id: str) -> Call[Integration]:
        """Read one integration, with its ``sync_stats``."""
        snapshot = yield from self.read(integration_id)
        return snapshot.integrations[integration_id]

    def read(self, integration_id: str) -> Call[Snapshot]:
        """Read one integration and the server's time."""
        return (yield from self._get(integration_id, self.connection.retry_limit))

    def find(self, integration_type: str) -> Call[tuple[Snapshot, Integration]]:
        """Find the one integration of a type, and the server's time."""
        wanted = one_text(integration_type, "integration_type")
        snapshot = yield from self._whole_list(wanted)
        return snapshot, snapshot.only_one(wanted, self.connection.conn_id)

    def trigger_sync(self, integration_id: str, idempotency_key: str | None) -> Call[tuple[str, datetime]]:
        """
        Start a sync; all attempts carry one ``Idempotency-Key``.

        :return: the sync_id and the server time of the answer
        """
        key = str(uuid.uuid4()) if idempotency_key is None else checked_header(idempotency_key)
        headers = {"Idempotency-Key": key}
        request = Send("POST", f"{_path(integration_id)}/sync", headers)
        reader = AnswerReader(self.connection, f"triggering a sync of {integration_id}")
        answer, sync_id = yield from self._call(request, reader, parse_sync_id, self.connection.retry_limit)
        return self.connection.redact_name(sync_id), answer.server_time

    def observe(self, ids: Collection[str], *, retries: int = 0, patience: float | None = None) -> Call[Snapshot]:
        """
        Take one look at the workspace, as a wait does again and again.

        An id that the list does not hold is read singly before it is called missing. A 401 re-reads the Airflow
        connection once, as the key may have been rotated, before it is final.

        :param ids: Ids that have to be in the snapshot if they exist.
        :param retries: Attempts after the first if the API cannot be asked.
        :param patience: Seconds after which no further attempt is made; None for no limit.
        """
        try:
            return (yield from self._observe(ids, retries, patience))
        except FlokitAuthenticationError:
            renewed: FlokitConnection = yield Reload()
            if renewed.api_key == self.connection.api_key and renewed.base_url == self.connection.base_url:
                raise
            self.connection = renewed
            return (yield from self._observe(ids, retries, patience))

    def read_unlisted(self, integration_id: str, retries: int = 0, patience: float | None = None) -> Call[Snapshot]:
        """
        Read an integration that the list does not hold: the snapshot tells what it is, that it is missing, or why not.

        :param integration_id: Its id.
        :param retries: Attempts after the first if the API cannot be asked.
        :param patience: See :meth:`observe`.
        """
        try:
            return (yield from self._read_singly(integration_id, retries, patience))
        except FlokitAuthenticationError as error:
            # The list was readable a moment ago: the key was rotated in between, and the next look will tell.
            unread = Unread(FlokitAPIError(str(error)))
            return Snapshot(datetime.now(tz=UTC), {}, unread={integration_id: unread})

    def _read_singly(self, integration_id: str, retries: int, patience: float | None) -> Call[Snapshot]:
        now = datetime.now(tz=UTC)
        try:
            return (yield from self._get(integration_id, retries, patience))
        except FlokitNotFoundError:
            return Snapshot(now, {}, frozenset({integration_id}))
        except FlokitAuthenticationError:
            raise
        except (FlokitAPIError, FlokitPermanentError) as error:
            return Snapshot(now, {}, unread={integration_id: Unread(error)})

    def _observe(self, ids: Collection[str], retries: int, patience: float | None) -> Call[Snapshot]:
        snapshot = yield from self._list(retries, patience)
        for integration_id in ids:
            if not snapshot.covers((integration_id,)):
                single = yield from self._read_singly(integration_id, retries, patience)
                snapshot = snapshot.joined([single])
        return snapshot

    def _list(self, retries: int, patience: float | None) -> Call[Snapshot]:
        last = self._last

        def parse(body: bytes) -> Snapshot | tuple[list[Integration], dict[str, MalformedEntry]]:
            return last.snapshot if last.snapshot is not None and body == last.body else parse_list(body)

        reader = AnswerReader(self.connection, _LISTING)
        answer, parsed = yield from self._call(Send("GET", LIST_PATH), reader, parse, retries, patience)
        if isinstance(parsed, Snapshot):
            return replace(parsed, at=answer.server_time)
        integrations, malformed = parsed
        redact_name = self.connection.redact_name
        unread = {
            redact_name(name): Unread(
                reader.malformed(answer, f"integration {shown(name)}: {bad.problem}", bad.source),
                bad.type and redact_name(bad.type),
            )
            for name, bad in malformed.items()
        }
        last.body, last.snapshot = answer.body, self._snapshot(answer, integrations, unread)
        return last.snapshot

    def _whole_list(self, integration_type: str | None = None) -> Call[Snapshot]:
        parse = partial(parse_whole_list, integration_type=integration_type)
        request, reader = Send("GET", LIST_PATH), AnswerReader(self.connection, _LISTING)
        answer, integrations = yield from self._call(request, reader, parse, self.connection.retry_limit)
        return self._snapshot(answer, integrations)

    def _get(self, integration_id: str, retries: int, patience: float | None = None) -> Call[Snapshot]:
        request, reader = Send("GET", _path(integration_id)), AnswerReader(self.connection, f"reading {integration_id}")
        parse = partial(parse_integration, integration_id=integration_id)
        answer, integration = yield from self._call(request, reader, parse, retries, patience)
        # Under the id that was asked for, also if the key is repeated in it.
        return Snapshot(answer.server_time, {integration_id: harmless([integration], self.connection)[0]})

    def _snapshot(
        self, answer: Answer, integrations: list[Integration], unread: dict[str, Unread] | None = None
    ) -> Snapshot:
        found = harmless(integrations, self.connection)
        return Snapshot(answer.server_time, {i.id: i for i in found}, unread=unread or {})

    def _call(
        self,
        request: Send,
        reader: AnswerReader,
        parse: Callable[[bytes], T],
        retries: int,
        patience: float | None = None,
    ) -> Call[tuple[Answer, T]]:
        """Send a request until it is answered usably, fails for good, or has no retries left."""
        failures = 0
        while True:
            asked = time.monotonic()
            try:
                answer = yield from _send(request, reader)
                return answer, reader.read(answer, parse)
            except FlokitAPIError as error:
                failures += 1
                if failures > retries or (error.retry_after or 0.0) > retry.RETRY_AFTER_LIMIT:
                    raise
                spread = retry.crowd_spread(failures) if isinstance(error, FlokitRateLimitError) else 0.0
                seconds = retry.delay(failures, random.random(), error.retry_after, spread)  # noqa: S311
                pause = Pause(seconds, str(error))
                if patience is not None:
                    patience -= time.monotonic() - asked + pause.seconds
                    if patience < 0:
                        raise
            yield pause


def _send(request: Send, reader: AnswerReader) -> Call[Answer]:
    """Send a request, and follow redirects."""
    for _ in range(redirects.LIMIT + 1):
        failure: FlokitError | None = None
        try:
            answer: Answer = yield request
        except TransportError as error:
            failure = reader.unanswered(error)
        # Raised outside of the handler, and from what holds no answer: tracebacks may show local variables.
        if failure is not None:
            raise failure
        if not redirects.is_redirect(answer):
            return answer
        following = redirects.redirected(request, answer, reader)
        if isinstance(following, FlokitError):
            raise following
        request = following
    raise FlokitRequestError(reader.message("it redirects in a circle", "Check the connection's API URL (host)"))


def _path(integration_id: str) -> str:
    return f"{LIST_PATH}/{quote(checked_id(integration_id), safe='')}"
