"""
Two thin transports under :mod:`airflow_provider_flokit.api`: one request, one answer, nothing else.

requests and aiohttp are imported when a session opens, so that parsing a DAG pays for neither. Both take the same
settings to mean the same: proxies, certificates, the timeout of a whole request, the largest body.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_flokit import __version__
from airflow_provider_flokit.addresses import chosen_proxy, is_loopback
from airflow_provider_flokit.api import Answer, OversizedBodyError, Send, TransportError
from airflow_provider_flokit.errors import FlokitConfigError, shown
from airflow_provider_flokit.library_logs import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp
    import requests

    from airflow_provider_flokit.connection import FlokitConnection

BODY_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a decompressed answer; a larger one is refused. A workspace of 10,000 integrations needs about 2 MiB."""

_KEEPALIVE: Final = 300.0
"""Seconds that an idle connection is kept for the next poll."""

_CHUNK: Final = 64 * 1024
_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class RequestsTransport:
    """
    Sends requests with a ``requests.Session``.

    :param connection: The settings.
    """

    def __init__(self, connection: FlokitConnection) -> None:
        import requests

        self._connection = connection
        if connection.verify and connection.base_url.startswith("https:"):
            ssl_context(connection)  # requests reads the bundle late, and calls a bad one a broken connection
        self._session: requests.Session = requests.Session()
        # The environment is read below: .netrc would replace the Authorization header.
        self._session.trust_env = False
        self._session.headers = requests.structures.CaseInsensitiveDict(_headers(connection))
        self._session.verify = ca_bundle(connection) if connection.verify else False
        # Redirects are followed by the caller, within the same origin; requests would judge them even if told not to.
        self._session.get_redirect_target = _no_redirect  # type: ignore[assignment,method-assign]
        proxy = proxy_for(connection)
        self._session.proxies = {"http": proxy, "https": proxy} if proxy else {}

    def send(self, request: Send) -> Answer:
        """
        Send a request, once.

        :param request: What to send.
        :raises TransportError: if no complete answer came
        """
        with redacted(self._connection.redact):
            return self._ask(request)

    def _ask(self, request: Send) -> Answer:
        import requests
        import urllib3

        timeout = self._connection.timeout
        deadline = time.monotonic() + timeout
        try:
            with self._session.request(
                request.method,
                f"{self._connection.base_url}{request.path}",
                headers=dict(request.headers),
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = bytearray()
                # read1() returns what has come; read() would wait for a full chunk, however slowly it trickles in.
                read = getattr(response.raw, "read1", response.raw.read)
                while chunk := read(_CHUNK, decode_content=True):
                    body += chunk
                    _check_size(body)
                    if time.monotonic() > deadline:
                        raise TransportError(_timed_out(timeout))
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, bytes(body))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            reason = self._connection.redact(_reason(error, timeout))
        # Outside of the handler, so that the library's exception, which holds the request, is no context of this one.
        raise TransportError(reason)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


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
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    _check_size(body)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, bytes(body))
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
    """
    proxies = connection.proxies
    if not proxies:
        host = urlsplit(connection.base_url).hostname or ""
        if is_loopback(host) or proxy_bypass(host):
            return None
        proxies = getproxies()
    return chosen_proxy(connection.base_url, proxies)


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
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"airflow-provider-flokit/{__version__}",
    }


def _no_redirect(_: object) -> None:
    """Tell requests that no answer is a redirect."""


def _check_size(body: bytearray) -> None:
    if len(body) > BODY_LIMIT:
        raise OversizedBodyError(f"the answer is larger than {BODY_LIMIT // 1024 // 1024} MiB")


def _timed_out(timeout: float) -> str:
    return f"timed out after {timeout:g} s"


def _reason(error: BaseException, timeout: float) -> str:
    """Say what happened in the words of the network, which are the same for both libraries."""
    causes = list(_causes(error))
    if any(isinstance(c, TimeoutError) or "Timeout" in type(c).__name__ for c in causes):
        return _timed_out(timeout)
    for cause in causes:
        # aiohttp's own errors are some of Python's too, but the details are in those that caused them.
        if isinstance(cause, ssl.SSLCertVerificationError) and (detail := getattr(cause, "verify_message", "")):
            return f"the TLS certificate is not accepted ({shown(detail)})"
        if isinstance(cause, ssl.SSLError) and (detail := getattr(cause, "reason", "")):
            return f"TLS failed ({shown(detail)})"
        if isinstance(cause, socket.gaierror) or type(cause).__name__ == "NameResolutionError":
            return "the host name cannot be resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
    if any("Proxy" in type(c).__name__ for c in causes):
        return "the proxy cannot be used"
    return f"the connection broke ({type(error).__name__})"


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
