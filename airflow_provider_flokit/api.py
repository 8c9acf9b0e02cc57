"""
FloKit's API without I/O: what to send, when to repeat it, and what an answer means.

Every call is a generator that yields *steps* (send this, pause, re-read the connection) and returns models or
raises the package's errors. The two hooks differ only in how they perform the steps, so that requests and aiohttp
cannot come to different outcomes.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import quote, urljoin, urlsplit

from airflow_provider_flokit import retry
from airflow_provider_flokit.arguments import one_text
from airflow_provider_flokit.errors import (
    SHOWN_LENGTH,
    FlokitAmbiguousTypeError,
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermanentError,
    FlokitPermissionError,
    FlokitRateLimitError,
    FlokitRequestError,
    FlokitResponseError,
    FlokitServerError,
    FlokitSyncAlreadyRunningError,
    FlokitUnreachableError,
    cut,
    escaped,
    shown,
)
from airflow_provider_flokit.identifiers import checked_header, checked_id
from airflow_provider_flokit.models import Integration, MalformedDataError, as_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from airflow_provider_flokit.connection import FlokitConnection

LIST_PATH: Final = "/v1/integrations"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT: Final = 5
_NAME_LENGTH: Final = 256
_SOURCE_LIMIT: Final = 64 * 1024
_CUT_LENGTH: Final = 64  # nothing shorter is ever cut
_ERROR_MESSAGE_LENGTH: Final = 2000
_URL_CHARACTERS: Final = "!$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send one request, once. The answer to this step is an :class:`Answer`.

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
    Sleep before the next attempt. The answer to this step is None.

    :param seconds: How long.
    :param reason: Why another attempt is needed.
    """

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Re-read the Airflow connection. The answer to this step is the new :class:`FlokitConnection`."""


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


@dataclass(frozen=True, slots=True)
class Unread:
    """
    An integration that is there but could not be read.

    :param error: Why; a :class:`FlokitAPIError` may pass.
    :param type: Its type if that is known.
    """

    error: FlokitAPIError | FlokitPermanentError
    type: str | None = None


class TransportError(Exception):
    """Raised by a performer when no answer came; the message says why, without any secret."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The workspace at one moment.

    :param at: Server time.
    :param integrations: By id.
    :param missing: Ids that were asked for and do not exist.
    :param unread: Ids whose entry in the list is malformed, or that are not in it and could not be read singly.
    """

    at: datetime
    integrations: Mapping[str, Integration]
    missing: frozenset[str] = frozenset()
    unread: Mapping[str, Unread] = field(default_factory=dict)

    def covers(self, ids: Iterable[str]) -> bool:
        """
        Tell whether the snapshot says of every one of these ids what it is.

        :param ids: Integration ids.
        """
        return all(i in self.integrations or i in self.missing or i in self.unread for i in ids)

    def only_one(self, integration_type: str, conn_id: str) -> Integration:
        """
        Return the one integration of a type.

        :param integration_type: E.g. ``stripe``.
        :param conn_id: The connection, for the message.
        :raises FlokitNotFoundError: if there is none, listing what there is
        :raises FlokitAmbiguousTypeError: if there are several, listing their ids
        :raises FlokitResponseError: if that cannot be told because an entry is malformed
        """
        found = sorted(i.id for i in self.integrations.values() if i.type == integration_type)
        for unread in self.unread.values():
            if unread.type == integration_type or (unread.type is None and len(found) != 1):
                raise unread.error
        if len(found) == 1:
            return self.integrations[found[0]]
        if found:
            raise FlokitAmbiguousTypeError(
                f"{len(found)} FloKit integrations have the type {shown(integration_type)!r} (connection {conn_id!r}): "
                f"{shown(', '.join(found))}. Say which one with integration_id."
            )
        raise FlokitNotFoundError(
            f"No FloKit integration has the type {shown(integration_type)!r} (connection {conn_id!r}). The workspace "
            f"has: {self.overview}."
        )

    @property
    def overview(self) -> str:
        """All integrations with their types, for messages."""
        known = sorted(self.integrations.values(), key=lambda i: i.id)
        return shown(", ".join(f"{i.id} ({i.type})" for i in known)) or "no integrations at all"


@dataclass(slots=True)
class LastList:
    """
    The last list that was looked at; a workspace seldom changes from one poll to the next.

    :param body: The answer's body.
    :param parsed: What it was parsed to.
    :param snapshot: What it was made into.
    """

    # As the server sent it: in no repr.
    body: bytes | None = field(default=None, repr=False)
    parsed: object = None
    snapshot: Snapshot | None = None


T = TypeVar("T")
Call = Generator[Send | Pause | Reload, Any, T]


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
        snapshot = yield from self._list(self.connection.retry_limit, parse=_parse_list_strictly)
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
        snapshot = yield from self._list(self.connection.retry_limit, parse=_parse_list_strictly)
        return snapshot, snapshot.only_one(wanted, self.connection.conn_id)

    def trigger_sync(self, integration_id: str, idempotency_key: str | None) -> Call[tuple[str, datetime]]:
        """
        Start a sync; all attempts carry one ``Idempotency-Key``.

        :return: the sync_id and the server time of the answer
        """
        key = str(uuid.uuid4()) if idempotency_key is None else checked_header(idempotency_key)
        headers = {"Idempotency-Key": key}
        request = Send("POST", f"{_path(integration_id)}/sync", headers)
        answer, sync_id = yield from self._call(
            request, f"triggering a sync of {integration_id}", _parse_sync_id, self.connection.retry_limit
        )
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
                snapshot = replace(
                    snapshot,
                    integrations={**snapshot.integrations, **single.integrations},
                    missing=snapshot.missing | single.missing,
                    unread={**snapshot.unread, **single.unread},
                )
        return snapshot

    def _list(
        self, retries: int, patience: float | None = None, parse: Callable[[Any], _Parsed] | None = None
    ) -> Call[Snapshot]:
        request, doing = Send("GET", LIST_PATH), "listing the integrations"
        answer, parsed = yield from self._call(request, doing, parse or _parse_list, retries, patience)
        last = self._last
        if parsed is last.parsed and last.snapshot is not None:
            return replace(last.snapshot, at=answer.server_time)
        integrations, malformed = parsed
        redact_name = self.connection.redact_name
        unread = {
            redact_name(name): Unread(
                self._malformed(answer, doing, f"integration {shown(name)}: {bad.problem}", bad.source),
                bad.type and redact_name(bad.type),
            )
            for name, bad in malformed.items()
        }
        integrations = self._clean(integrations)
        snapshot = Snapshot(answer.server_time, {i.id: i for i in integrations}, unread=unread)
        if parse is None:
            last.body, last.parsed, last.snapshot = answer.body, (integrations, {}), snapshot
        return snapshot

    def _get(self, integration_id: str, retries: int, patience: float | None = None) -> Call[Snapshot]:
        def parse(data: Any) -> Integration:
            return _parse_single(data, integration_id)

        request, doing = Send("GET", _path(integration_id)), f"reading {integration_id}"
        answer, integration = yield from self._call(request, doing, parse, retries, patience)
        return Snapshot(answer.server_time, {integration_id: self._clean([integration])[0]})

    def _clean(self, integrations: list[Integration]) -> list[Integration]:
        """
        Make the texts harmless that go on into messages, XComs and trigger rows: no secrets, and in the one free text
        no control characters (some databases refuse a NUL) and no more than 2,000 characters.
        """
        name = self.connection.redact_name
        # One look through all names at once: a workspace may have ten thousand.
        odd = self.connection.is_repeated_in("\0".join(f"{i.id}\0{i.type}\0{i.status}" for i in integrations))
        cleaned = integrations
        if odd:
            cleaned = [replace(i, id=name(i.id), type=name(i.type), status=name(i.status)) for i in integrations]
        return [self._clean_message(i, i.error_message) if i.error_message else i for i in cleaned]

    def _clean_message(self, integration: Integration, message: str) -> Integration:
        # One character more tells that there are more.
        redacted = self.connection.redact_start(message, _ERROR_MESSAGE_LENGTH + 1)
        cleaned = cut(escaped(redacted), _ERROR_MESSAGE_LENGTH)
        return integration if cleaned == message else replace(integration, error_message=cleaned)

    def _call(
        self, request: Send, doing: str, parse: Callable[[Any], T], retries: int, patience: float | None = None
    ) -> Call[tuple[Answer, T]]:
        """Send a request until it is answered usably, fails for good, or has no retries left."""
        failures = 0
        while True:
            asked = time.monotonic()
            try:
                answer = yield from self._send(request, doing)
                return answer, self._read(answer, doing, parse)
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

    def _send(self, request: Send, doing: str) -> Call[Answer]:
        """Send a request, following redirects within the same origin only: the key is for no other."""
        for _ in range(_REDIRECT_LIMIT + 1):
            failure: FlokitError | None = None
            try:
                answer: Answer = yield request
            except TransportError as error:
                failure = self._unanswered(error, doing)
            # Raised outside of the handler, and from what holds no answer: tracebacks may show local variables.
            if failure is not None:
                raise failure
            if answer.status not in _REDIRECTS or not answer.headers.get("location"):
                return answer
            following = self._redirected(request, answer, doing)
            if isinstance(following, FlokitError):
                raise following
            request = following
        raise FlokitRequestError(
            self._message(doing, "it redirects in a circle", "Check the connection's API URL (host)")
        )

    def _unanswered(self, error: TransportError, doing: str) -> FlokitUnreachableError:
        what = f"no answer from {self.connection.base_url}: {error}"
        todo = "Check the connection's API URL (host), the network and FloKit's status"
        return FlokitUnreachableError(self._message(doing, what, todo))

    def _redirected(self, request: Send, answer: Answer, doing: str) -> Send | FlokitRequestError:
        """Return where a redirect leads, or why it is not followed."""
        try:
            url = urljoin(f"{self.connection.base_url}{request.path}", answer.headers["location"])
            origin = _origin(url)
            parts = urlsplit(url)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            path = quote(path, safe=_URL_CHARACTERS, errors="surrogateescape")
        except ValueError:
            url = path = origin = ""
        what, todo = f"HTTP {answer.status} redirects", "Check the connection's API URL (host)"
        if not origin:
            return FlokitRequestError(self._message(doing, f"{what} to no valid URL", todo))
        if origin != _origin(self.connection.base_url):
            what += f" to another origin, {shown(self.connection.redact(origin))}; the key was not sent there"
            todo = "If that is the right address, set it as the connection's API URL (host)"
            return FlokitRequestError(self._message(doing, what, todo))
        if request.method != "GET" and answer.status not in (307, 308):
            return FlokitRequestError(self._message(doing, f"{what} a {request.method}", todo))
        if self.connection.redact(url) != url:
            return FlokitRequestError(self._message(doing, f"{what} to a URL that holds the API key", todo))
        return Send(request.method, path, request.headers)

    def _read(self, answer: Answer, doing: str, parse: Callable[[Any], T]) -> T:
        if answer.status not in (200, 201, 202):
            raise self._error(answer, doing)
        if answer.problem:
            raise self._malformed(answer, doing, f"the body cannot be used: {answer.problem}")
        if parse is _parse_list and answer.body == self._last.body:
            return cast("T", self._last.parsed)
        try:
            return parse(json.loads(answer.body))
        except (ValueError, RecursionError) as error:
            # In no variable: tracebacks may show those.
            failure = (
                self._malformed(answer, doing, str(error), _Source(answer.body))
                if isinstance(error, MalformedDataError)
                else self._malformed(answer, doing, "the body is not JSON")
            )
        raise failure  # outside of the handler: the context of the error would hold the body

    def _malformed(self, answer: Answer, doing: str, detail: str, source: _Source | None = None) -> FlokitResponseError:
        """
        Say what is wrong with an answer.

        :param answer: The answer.
        :param doing: What was asked for.
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
        return FlokitResponseError(
            self._message(doing, what, "Check that the connection's API URL (host) is FloKit's API")
        )

    def _error(self, answer: Answer, doing: str) -> FlokitError:
        status = answer.status
        said = f"HTTP {status}{self._said(answer)}"
        conn = f"connection {self.connection.conn_id!r}"
        if status == HTTPStatus.UNAUTHORIZED:
            todo = f"Put a valid API key into {conn} (a key dies at once when it is rotated)"
            return FlokitAuthenticationError(self._message(doing, said, todo))
        if status == HTTPStatus.FORBIDDEN:
            todo = f"The key of {conn} may not do this; triggering a sync needs a read-write key"
            return FlokitPermissionError(self._message(doing, said, todo))
        if status == HTTPStatus.NOT_FOUND:
            todo = "Check the integration's id and that the key belongs to its workspace"
            return FlokitNotFoundError(self._message(doing, said, todo))
        if status == HTTPStatus.CONFLICT:
            todo = "A sync is running already; wait for it"
            return FlokitSyncAlreadyRunningError(self._message(doing, said, todo))
        if not retry.is_retried(status):
            todo = "A repeat would not change this; check the request and the connection's API URL (host)"
            return FlokitRequestError(self._message(doing, said, todo))
        retry_after = retry.parse_retry_after(answer.headers.get("retry-after"), answer.server_time)
        todo = "Try again later" if retry_after is None else f"Try again in {retry_after:.0f} s, as FloKit asks"
        kind: type[FlokitAPIError] = (
            FlokitRateLimitError if status == HTTPStatus.TOO_MANY_REQUESTS else FlokitServerError
        )
        return kind(self._message(doing, said, todo), retry_after=retry_after)

    def _said(self, answer: Answer) -> str:
        """Return FloKit's own words; a body that is not the documented error object says nothing useful."""
        try:
            data = json.loads(answer.body)
        except (ValueError, RecursionError):
            return ""
        fields: dict[str, Any] = data if isinstance(data, dict) else {}
        message = fields.get("message") or fields.get("error")
        if not isinstance(message, str) or not message.strip():
            return ""
        return f": {shown(self.connection.redact_start(message, 4 * SHOWN_LENGTH)).rstrip('.')}"

    def _message(self, doing: str, what: str, todo: str) -> str:
        text = f"FloKit, {doing} (connection {self.connection.conn_id!r}): {what}. {todo}."
        return self.connection.redact(text)


def _path(integration_id: str) -> str:
    return f"{LIST_PATH}/{quote(checked_id(integration_id), safe='')}"


@dataclass(frozen=True, slots=True)
class _Source:
    body: bytes = field(repr=False)  # a server may have repeated the API key there


@dataclass(frozen=True, slots=True)
class _Malformed:
    problem: str
    type: str | None
    source: _Source


_Parsed = tuple[list[Integration], dict[str, _Malformed]]
"""The integrations, and by id what is wrong with malformed entries."""


def _parse_list(data: Any) -> _Parsed:
    """Read a list for a wait: a malformed entry harms no other wait than one for it."""
    entries = data.get("integrations") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise MalformedDataError("'integrations' is missing or not a list")
    integrations: list[Integration] = []
    malformed: dict[str, _Malformed] = {}
    for entry in entries:
        try:
            integrations.append(_bounded(Integration.from_json(entry)))
        except MalformedDataError as error:
            name, kind = (entry.get("id"), entry.get("type")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not name or name in malformed:
                raise
            source = _Source(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))
            malformed[name] = _Malformed(str(error), kind if isinstance(kind, str) else None, source)
    if len({i.id for i in integrations} | malformed.keys()) != len(integrations) + len(malformed):
        raise MalformedDataError("'integrations' holds an id twice")
    return integrations, malformed


def _parse_list_strictly(data: Any) -> _Parsed:
    """Read a list for a caller who wants all of it."""
    integrations, malformed = _parse_list(data)
    for name, bad in malformed.items():
        raise MalformedDataError(f"integration {shown(name)}: {bad.problem}")
    return integrations, malformed


def _parse_single(data: Any, integration_id: str) -> Integration:
    integration = _bounded(Integration.from_json(data.get("integration") if isinstance(data, dict) else None))
    if integration.id != integration_id:
        raise MalformedDataError("'integration' is another one than was asked for")
    return integration


def _parse_sync_id(data: Any) -> str:
    sync_id = data.get("sync_id") if isinstance(data, dict) else None
    if not isinstance(sync_id, str) or not sync_id:
        raise MalformedDataError("'sync_id' is missing or not a text")
    return _short("sync_id", sync_id)


def _bounded(integration: Integration) -> Integration:
    for name, text in (("id", integration.id), ("type", integration.type), ("status", integration.status)):
        _short(name, text)
    return integration


def _short(name: str, text: str) -> str:
    """Return a name that may go on into XComs and trigger rows."""
    if len(text) > _NAME_LENGTH or not text.isprintable():
        raise MalformedDataError(f"{name!r} is longer than {_NAME_LENGTH} characters or not printable")
    return text


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"
