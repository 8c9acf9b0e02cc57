"""FloKit's three endpoints over one ``requests.Session``: send, retry, read the answer, report errors."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3

from airflow_provider_flokit import __version__
from airflow_provider_flokit.api import retry
from airflow_provider_flokit.api.attempts import ATTEMPTS, Attempts
from airflow_provider_flokit.api.settings import is_loopback
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitArgumentError,
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
from airflow_provider_flokit.models import Integration, MalformedDataError, as_utc, checked_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_flokit.api.settings import FlokitSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

LIST_PATH: Final = "/v1/integrations"
BODY_LIMIT: Final = 16 * 1024 * 1024  # bytes; a list of 10,000 integrations has about 2 MiB

# The exceptions of requests are OSErrors; an invalid Location of a redirect is a plain ValueError.
_FAILURES: Final = (OSError, ValueError, urllib3.exceptions.HTTPError)
_CHECK_URL: Final = "Check the connection's API URL (host)"
_CHECK_ID: Final = "Check the integration's id and that the key belongs to its workspace"
_READ_WRITE: Final = "Triggering a sync needs a read-write key, and this one is read-only: put another one there"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """FloKit's answer, its server time, and the number of malformed entries in its list."""

    value: T
    at: datetime
    malformed: int = 0


@dataclass(frozen=True, slots=True)
class _Request(Generic[T]):
    """One call of the API: what to send, and how to read the answer."""

    doing: str
    method: str
    path: str
    read: Callable[[bytes], T]
    headers: Mapping[str, str] | None = None


class FlokitClient:
    """The calls of FloKit's API for one connection. Threads may share a client."""

    def __init__(self, settings: FlokitSettings) -> None:
        self.settings = settings
        self.session = _Session()
        self.session.auth = _KeyAuth(settings)
        self.session.headers["Accept"] = "application/json"
        self.session.headers["User-Agent"] = f"airflow-provider-flokit/{__version__}"
        self.session.verify = settings.verify
        self.session.proxies = _proxies(settings)
        self._last_list: tuple[bytes, tuple[Sequence[Integration], int]] = b"", ([], 0)  # with the body's digest
        self._warned_of: set[str] = set()

    def list(self, patience: float = math.inf) -> Answer[Sequence[Integration]]:
        """List all integrations except malformed ones; as long as the answer is the same, return the same object."""
        request = _Request("listing the integrations", "GET", LIST_PATH, self._read_list)
        answer = self._call(request, patience)
        integrations, malformed = answer.value
        return Answer(integrations, answer.at, malformed)

    def get(self, integration_id: str, patience: float = math.inf) -> Answer[Integration]:
        """Read one integration, with its ``sync_stats``."""

        def read(body: bytes) -> Integration:
            integration = self._integration(_object(body).get("integration"))
            if integration.id != integration_id:
                raise MalformedDataError("'integration' is another one than was asked for")
            return integration

        return self._call(_Request(f"reading {integration_id}", "GET", _path(integration_id), read), patience)

    def sync(self, integration_id: str, idempotency_key: str | None) -> Answer[str]:
        """Start a sync and return its sync_id; all attempts send the same ``Idempotency-Key``; default: a new one."""
        key: Any = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        if not isinstance(key, str) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", key):
            raise FlokitArgumentError("idempotency_key must be printable ASCII without spaces around it.")
        doing, path = f"triggering a sync of {integration_id}", f"{_path(integration_id)}/sync"
        return self._call(_Request(doing, "POST", path, _read_sync_id, {"Idempotency-Key": key}))

    def _call(self, request: _Request[T], patience: float = math.inf) -> Answer[T]:
        """Send a request until it succeeds, fails for good, or no attempt is left; pause ``patience`` s at most."""
        # Every pause is longer than 0 s, so with a patience of 0 there is one attempt.
        attempts, backoff = ATTEMPTS.get(None) or Attempts(), retry.Backoff()
        while True:
            attempts.begin(self.settings.timeout)
            outcome = self._attempt(request)
            if isinstance(outcome, Answer):
                return outcome
            pause = backoff.add(outcome)
            patience -= pause
            if not isinstance(outcome, FlokitAPIError) or backoff.failures > self.settings.retry_limit or patience < 0:
                raise outcome
            if (outcome.retry_after or 0.0) > retry.RETRY_AFTER_LIMIT or attempts.given_up.is_set():
                raise outcome
            log.warning("%s Trying again in %.1f s.", outcome, pause)
            attempts.pause(pause)

    def _attempt(self, request: _Request[T]) -> Answer[T] | FlokitError:
        """Send a request once; return errors: raised here, they would hold an exception of requests, with the key."""
        timeout, began, handled = self.settings.timeout, time.monotonic(), sys.exception()
        try:
            with self.session.request(
                request.method,
                f"{self.settings.base_url}{request.path}",
                headers=request.headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _body(response, began + timeout)
        except _FAILURES as error:
            said = f"no answer from {self.settings.base_url}: {_reason(error, timeout, handled)}"
            todo = f"{_CHECK_URL}, the network and FloKit's status"
            return self._error(FlokitUnreachableError, request, said, todo)
        if response.status_code not in range(200, 300):
            return self._refusal(request, response, body)
        try:
            return Answer(request.read(body), _server_time(response))
        except ValueError as error:
            problem = error if isinstance(error, MalformedDataError) else "it is not JSON"
            said = f"HTTP {response.status_code}, but not the documented answer: {problem}"
            return self._error(FlokitResponseError, request, said, f"{_CHECK_URL}; it may not be FloKit's API")

    def _refusal(self, request: _Request[Any], response: requests.Response, body: bytes) -> FlokitError:
        """Return the error for a status that is no success."""
        kind: Callable[[str], FlokitError] = FlokitRequestError
        todo = f"A repeat would not change this. {_CHECK_URL}"
        at, said = _server_time(response), f"HTTP {response.status_code}{self._message(body)}"
        match response.status_code, request.method:
            case 429 | 500 | 502 | 503 | 504 as status, _:
                asked = retry.parse_retry_after(response.headers.get("Retry-After"), at)
                todo = "Try again later" if asked is None else f"Try again in {asked:.0f} s, as FloKit asks"
                limited = status == requests.codes.too_many_requests
                kind = partial(FlokitRateLimitError if limited else FlokitServerError, retry_after=asked)
            case 401, _:
                kind = FlokitAuthenticationError
                todo = "Put a valid API key into the connection (a rotated key is no longer valid)"
            case 403, "POST":
                kind, todo = FlokitPermissionError, _READ_WRITE
            case 403, _:
                kind, todo = FlokitPermissionError, "The API key may not do this"
            case 404, _:
                kind, todo = FlokitNotFoundError, _CHECK_URL if request.path == LIST_PATH else _CHECK_ID
            case 409, "POST":
                kind = partial(FlokitSyncAlreadyRunningError, at=at)
                todo = "A sync is running already; wait for it"
            case _ if response.is_redirect:
                where = shown(self.settings.redact(urljoin(response.url, response.headers["Location"])))
                said = f"HTTP {response.status_code} leads to {where}, and the API key is not sent there"
                todo = "If that is FloKit's API, set it as the connection's API URL (host)"
        return self._error(kind, request, said, todo)

    def _error(self, kind: Callable[[str], FlokitError], request: _Request[Any], said: str, todo: str) -> FlokitError:
        text = f"FloKit, {request.doing} (connection {self.settings.conn_id!r}): {said}. {todo}."
        return kind(self.settings.redact(text))

    def _message(self, body: bytes) -> str:
        """Return FloKit's own message, "" if there is none."""
        said = None
        with suppress(ValueError):
            fields = _object(body)
            said = fields.get("message") or fields.get("error")
        text = shown(self.settings.redact(said)).rstrip(". ") if isinstance(said, str) else ""
        return f": {text}" if text else ""

    def _read_list(self, body: bytes) -> tuple[Sequence[Integration], int]:
        digest = hashlib.sha256(body).digest()
        if digest == self._last_list[0]:
            return self._last_list[1]
        entries = _object(body).get("integrations")
        if not isinstance(entries, list):
            raise MalformedDataError("'integrations' is missing or not a list")
        found, malformed = [], 0
        for entry in entries:
            try:
                found.append(self._integration(entry))
            except MalformedDataError as error:
                malformed += 1
                name = shown(repr(entry.get("id") if isinstance(entry, dict) else None))
                if name not in self._warned_of:
                    log.warning("FloKit lists an integration that cannot be used, id %s: %s", name, error)
                    self._warned_of.add(name)
        self._last_list = digest, (found, malformed)
        return found, malformed

    def _integration(self, data: object) -> Integration:
        integration = Integration.from_json(data)
        if integration.error_message is None:
            return integration
        return replace(integration, error_message=self.settings.redact(integration.error_message))


class _Session(requests.Session):
    """A session whose own proxies and verify win over the environment's; in requests the environment wins."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        proxies = {**self.proxies, **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


class _KeyAuth(requests.auth.AuthBase):
    """Sends the key to the connection's scheme, host and port only; netrc does not replace it, as it would a header."""

    def __init__(self, settings: FlokitSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if str(request.url).startswith(f"{self._settings.base_url}/"):
            request.headers["Authorization"] = f"Bearer {self._settings.api_key}"
        return request


def _proxies(settings: FlokitSettings) -> dict[str, Any]:
    """Return the session's proxies; requests takes missing keys from the environment."""
    if settings.proxies:
        return {"http": None, "https": None, "all": None, **settings.proxies}
    host = urlsplit(settings.base_url).hostname or ""
    return {"no_proxy": host} if is_loopback(host) else {}


def _reason(error: Exception, timeout: float, handled: BaseException | None) -> str:
    """Say why no answer came: the kind of error, and its first cause after what the caller was handling already."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return f"timed out after {timeout:g} s"
    if isinstance(error, requests.exceptions.InvalidURL | urllib3.exceptions.LocationValueError):
        return "the URL of the API or of the proxy is not valid"  # without the cause: it may show the proxy's password
    what = "the connection failed"
    if isinstance(error, requests.exceptions.ProxyError):
        what = "the proxy cannot be used"
    elif isinstance(error, requests.exceptions.SSLError):
        what = "TLS failed"
    cause: BaseException = error
    while isinstance(cause.__context__, _FAILURES) and cause.__context__ is not handled:
        cause = cause.__context__
    return f"{what} ({shown(cause)})"


def _body(response: requests.Response, until: float) -> bytes:
    """Read an answer's body until a time of the monotonic clock; a little more than the limit at most."""
    # read1() returns what has arrived; read() and iter_content() wait for a whole piece, even if it comes very slowly.
    # urllib3 1.26 has no read1().
    read = getattr(response.raw, "read1", response.raw.read)
    body = bytearray()
    while len(body) <= BODY_LIMIT and (piece := read(1 << 16, decode_content=True)):
        body += piece
        if time.monotonic() > until:
            raise TimeoutError
    return bytes(body)


def _server_time(response: requests.Response) -> datetime:
    try:
        return as_utc(parsedate_to_datetime(response.headers["Date"]))
    except (KeyError, ValueError, OverflowError):
        return datetime.now(tz=UTC)


def _path(integration_id: str) -> str:
    return f"{LIST_PATH}/{quote(checked_id(integration_id), safe='')}"


def _object(body: bytes) -> Mapping[str, Any]:
    if len(body) > BODY_LIMIT:
        raise MalformedDataError(f"it is larger than {BODY_LIMIT >> 20} MiB")
    data = json.loads(body)
    return data if isinstance(data, dict) else {}


def _read_sync_id(body: bytes) -> str:
    fields = _object(body)
    sync_id = fields.get("sync_id")
    if fields.get("status") != "ok":
        raise MalformedDataError("'status' is not 'ok'")
    if not isinstance(sync_id, str) or not sync_id:
        raise MalformedDataError("'sync_id' is missing or not a text")
    return sync_id
