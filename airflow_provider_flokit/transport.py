"""
Two thin transports under :mod:`airflow_provider_flokit.api`: one request, one answer, nothing else.

requests and aiohttp are imported when a session opens, so that parsing a DAG pays for neither. Both take the same
settings to mean the same: proxies, certificates, the timeout of a whole request, the largest body.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_flokit import __version__
from airflow_provider_flokit.addresses import chosen_proxy, is_loopback
from airflow_provider_flokit.body import ACCEPT_ENCODING, PIECE, Body
from airflow_provider_flokit.errors import FlokitConfigError, shown
from airflow_provider_flokit.library_logs import redacted
from airflow_provider_flokit.steps import Send, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import aiohttp
    import requests

    from airflow_provider_flokit.connection import FlokitConnection
    from airflow_provider_flokit.steps import Answer

_KEEPALIVE: Final = 300.0
"""Seconds that an idle connection is kept for the next poll."""

_LINE_LIMIT: Final = 64 * 1024
"""Bytes of a line in an answer's head; http.client has the same."""

_BROKE: Final = "the connection broke before the whole answer had come"
_CUT_OFF: Final = frozenset({"IncompleteRead", "RemoteDisconnected", "ClientPayloadError", "ServerDisconnectedError"})
_RESET: Final = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})
_NOT_HTTP: Final = frozenset({"HTTPException", "BadHttpMessage"})
_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class RequestsTransport:
    """
    Sends requests with a ``requests.Session``.

    :param connection: The settings.
    """

    def __init__(self, connection: FlokitConnection) -> None:
        self._connection = connection
        if connection.verify and connection.base_url.startswith("https:"):
            ssl_context(connection)  # requests reads the bundle late, and calls a bad one a broken connection
        self._session = self._open()

    def send(self, request: Send) -> Answer:
        """
        Send a request, once.

        :param request: What to send.
        :raises TransportError: if no complete answer came within the connection's timeout
        """
        from airflow_provider_flokit.exchange import Exchange

        session, timeout = self._session, self._connection.timeout
        try:
            return Exchange(lambda: self._exchanged(session, request)).answer(timeout)
        except TimeoutError:
            # The thread may still hold the old one.
            session.close()
            self._session = self._open()
            raise TransportError(_timed_out(timeout)) from None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _open(self) -> requests.Session:
        from airflow_provider_flokit.exchange import new_session

        session = new_session()
        session.headers.clear()
        session.headers.update(_headers(self._connection))
        session.verify = ca_bundle(self._connection) if self._connection.verify else False
        proxy = proxy_for(self._connection)
        session.proxies = {"http": proxy, "https": proxy} if proxy else {}
        return session

    def _exchanged(self, session: requests.Session, request: Send) -> Answer:
        with redacted(self._connection.redact):
            return self._ask(session, request)

    def _ask(self, session: requests.Session, request: Send) -> Answer:
        import requests
        import urllib3

        timeout = self._connection.timeout
        try:
            with session.request(
                request.method,
                f"{self._connection.base_url}{request.path}",
                headers=dict(request.headers),
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                # http.client takes headers for Latin-1.
                items = ((n, v.encode("latin-1").decode(errors="surrogateescape")) for n, v in response.headers.items())
                body = Body(response.status_code, _received(items))
                # read1() returns what has come; read() would wait for a full piece, however slowly it trickles in.
                read = getattr(response.raw, "read1", response.raw.read)
                while (piece := read(PIECE, decode_content=False)) and body.take(piece):
                    pass
                if not piece and body.is_cut_off:
                    raise TransportError(_BROKE)
                return body.answer()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            reason = self._connection.redact(_reason(error, timeout))
        # Outside of the handler, so that the library's exception, which holds the request, is no context of this one.
        raise TransportError(reason)


class AiohttpTransport:
    """
    Sends requests with an ``aiohttp.ClientSession``; opened by :meth:`open`, inside the event loop.

    :param connection: The settings.
    :param session: A session made for these settings.
    :param proxy: URL of the proxy to use, None for none.
    """

    def __init__(self, connection: FlokitConnection, session: aiohttp.ClientSession, proxy: str | None) -> None:
        self._connection = connection
        self._session = session
        self._proxy = proxy

    @classmethod
    async def open(cls, connection: FlokitConnection) -> Self:
        """
        Open a session.

        :param connection: The settings.
        """
        # Importing aiohttp and reading the CA bundle take 100 ms and more: not on the event loop.
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
        proxy = proxy_for(connection)
        tls: ssl.SSLContext | bool = connection.verify is not False
        if tls and connection.base_url.startswith("https:"):
            tls = await asyncio.to_thread(ssl_context, connection)
        session = aiohttp.ClientSession(
            headers=_headers(connection),
            timeout=aiohttp.ClientTimeout(total=connection.timeout),
            connector=aiohttp.TCPConnector(ssl=tls, keepalive_timeout=_KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=_LINE_LIMIT,
            max_field_size=_LINE_LIMIT,
        )
        # Else aiohttp repeats a GET by itself when a connection it kept open was dropped, past any retry_limit.
        session._retry_connection = False  # noqa: SLF001
        return cls(connection, session, proxy)

    async def send(self, request: Send) -> Answer:
        """
        Send a request, once.

        :param request: What to send.
        :raises TransportError: if no complete answer came
        """
        with redacted(self._connection.redact):
            return await self._ask(request)

    async def _ask(self, request: Send) -> Answer:
        import aiohttp
        from yarl import URL

        try:
            async with self._session.request(
                request.method,
                URL(f"{self._connection.base_url}{request.path}", encoded=True),
                headers=dict(request.headers),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = Body(response.status, _received(response.headers.items()))
                async for piece in response.content.iter_chunked(PIECE):
                    if not body.take(piece):
                        break
                return body.answer()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = self._connection.redact(_reason(error, self._connection.timeout))
        raise TransportError(reason)  # outside of the handler, as above

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def proxy_for(connection: FlokitConnection) -> str | None:
    """
    Choose the proxy for a connection: its own ``proxies``, else the environment's.

    A server on this machine is never reached through a proxy of the environment.

    :param connection: The settings.
    :raises FlokitConfigError: if it is one that cannot be used
    """
    proxies = connection.proxies
    if not proxies:
        host = urlsplit(connection.base_url).hostname or ""
        if is_loopback(host) or proxy_bypass(host):
            return None
        proxies = getproxies()
    proxy = chosen_proxy(connection.base_url, proxies)
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"  # as the environment may have it
    if proxy and urlsplit(proxy).scheme.lower() not in ("http", "https"):
        raise FlokitConfigError(
            f"Airflow connection {connection.conn_id!r}: the proxy that the environment names is no http or https "
            f"proxy. Name one in the connection's extra 'proxies', or take it out of the environment with no_proxy."
        )
    return proxy


def ca_bundle(connection: FlokitConnection) -> str:
    """
    Return the path of the certificates to trust: the connection's, the environment's, or certifi's.

    :param connection: The settings, with ``verify`` on.
    """
    if isinstance(connection.verify, str):
        return connection.verify
    import certifi

    return next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), certifi.where())


def ssl_context(connection: FlokitConnection) -> ssl.SSLContext:
    """
    Return a context that trusts :func:`ca_bundle`.

    :param connection: The settings, with ``verify`` on.
    :raises FlokitConfigError: if that is no bundle of certificates
    """
    path = ca_bundle(connection)
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        pass
    origin = "extra 'verify'" if path == connection.verify else "the CA bundle that the environment names"
    raise FlokitConfigError(
        f"Airflow connection {connection.conn_id!r}: {origin} ({shown(path)}) is no readable bundle of PEM certificates"
    )


def _headers(connection: FlokitConnection) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {connection.api_key}",
        "Accept": "application/json",
        "Accept-Encoding": ACCEPT_ENCODING,
        "User-Agent": f"airflow-provider-flokit/{__version__}",
    }


def _received(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return an answer's headers, names in lower case; those that came several times are one list, as HTTP means it."""
    headers: dict[str, str] = {}
    for name, value in items:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _timed_out(timeout: float) -> str:
    return f"timed out after {timeout:g} s"


def _reason(error: BaseException, timeout: float) -> str:
    """Say what happened in the words of the network, which are the same for both libraries."""
    causes = list(_causes(error))
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    # By its own name: urllib3 derives a refused connection from a timeout.
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        return _timed_out(timeout)
    # aiohttp derives errors of its own from these two, without their attributes.
    if names & {"SSLCertVerificationError", "CertificateError"}:
        return f"the TLS certificate is not accepted ({_first_said(causes, 'verify_message')})"
    if tls := [cause for cause in causes if isinstance(cause, ssl.SSLError)]:
        return f"TLS failed ({_first_said(tls, 'reason')})"
    if any("Proxy" in name for name in names):
        return "the proxy cannot be used"
    if names & {"gaierror", "NameResolutionError"}:
        return "the host name cannot be resolved"
    if "ConnectionRefusedError" in names:
        return "connection refused"
    if names & _CUT_OFF or any(getattr(cause, "errno", None) in _RESET for cause in causes):
        return _BROKE
    if names & _NOT_HTTP:
        return "what came is not HTTP"
    return f"{_BROKE} ({type(error).__name__})"


def _first_said(causes: Iterable[BaseException], attribute: str) -> str:
    said = (getattr(cause, attribute, None) for cause in causes)
    return next((shown(text) for text in said if isinstance(text, str) and text), "no reason given")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    stack: list[Any] = [error]
    while stack:
        item = stack.pop()
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        stack += [item.__cause__, item.__context__, getattr(item, "reason", None), getattr(item, "os_error", None)]
        stack += item.args
