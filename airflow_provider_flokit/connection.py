"""
From an Airflow connection of type ``flokit`` to checked settings, for both transports alike.

Pure: reading the connection from Airflow is the hooks' business.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from airflow_provider_flokit.addresses import chosen_proxy, is_host, is_ipv6, is_loopback, split
from airflow_provider_flokit.errors import FlokitConfigError, shown
from airflow_provider_flokit.redaction import Redactor, proxy_passwords

if TYPE_CHECKING:
    from collections.abc import Mapping

CONN_TYPE: Final = "flokit"
DEFAULT_CONN_ID: Final = "flokit_default"
DEFAULT_HOST: Final = "https://api.flokit.ai"
DEFAULT_TIMEOUT: Final = 30.0
DEFAULT_RETRY_LIMIT: Final = 4

_T = TypeVar("_T", str, int | None)
_TIMEOUT_LIMIT: Final = 3600.0
_RETRY_LIMIT_LIMIT: Final = 100
_SHORTEST_KEY: Final = 8
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class FlokitConnection:
    """
    The checked settings of one connection.

    :param conn_id: The Airflow connection's id, for messages.
    :param base_url: Scheme, host and port, without a trailing slash.
    :param api_key: The API key; in no repr.
    :param timeout: Seconds that one request may take in all.
    :param retry_limit: Attempts per request after the first.
    :param verify: Whether to check TLS certificates; a path is a CA bundle to check them with.
    :param proxies: Proxies as requests takes them: scheme (or ``scheme://host``, ``all``) to URL. In no repr, as the
        URLs may hold passwords. Empty: those of the environment are used.
    """

    conn_id: str
    base_url: str
    api_key: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT
    retry_limit: int = DEFAULT_RETRY_LIMIT
    verify: bool | str = True
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    _secrets: Redactor = field(init=False, repr=False, compare=False)
    _key: Redactor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare :meth:`redact`, for the passwords of the environment's proxies too where they are used."""
        proxies = self.proxies or getproxies()
        secrets = Redactor({self.api_key, *proxy_passwords(proxies.values())})
        object.__setattr__(self, "_secrets", secrets)
        # A short key may be part of an ordinary name, and so may a proxy's password.
        object.__setattr__(self, "_key", Redactor({self.api_key} if len(self.api_key) >= _SHORTEST_KEY else ()))

    @classmethod
    def from_fields(
        cls,
        *,
        conn_id: str,
        password: str | None,
        host: str | None = None,
        schema: str | None = None,
        port: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> FlokitConnection:
        """
        Check the fields of an Airflow connection.

        :param conn_id: The connection's id.
        :param password: The API key.
        :param host: ``host``, ``host:port`` or ``http(s)://host[:port]``; default ``https://api.flokit.ai``.
        :param schema: ``http`` or ``https`` where the host does not say it.
        :param port: The port where the host does not say it.
        :param extra: ``timeout``, ``retry_limit``, ``verify``, ``proxies``, ``allow_insecure_http``; JSON values or
            their text. Empty ones count as absent.
        :raises FlokitConfigError: naming the connection and the field
        """
        extras = {name: value for name, value in (extra or {}).items() if value not in (None, "")}
        reader = _Reader(conn_id)
        insecure = reader.flag(extras, "allow_insecure_http", default=False)
        base_url, proxies = reader.base_url(host, schema, port, insecure=insecure), reader.proxies(extras)
        if not insecure:
            reader.check_way(base_url, proxies)
        return cls(
            conn_id=conn_id,
            base_url=base_url,
            api_key=reader.api_key(password),
            timeout=reader.timeout(extras),
            retry_limit=reader.retry_limit(extras),
            verify=reader.verify(extras),
            proxies=proxies,
        )

    def redact(self, text: str) -> str:
        """
        Return the text without the API key and the proxies' passwords, in any usual encoding.

        :param text: What a server or a library said.
        """
        return self._secrets.clean(text)

    def redact_start(self, text: str, length: int) -> str:
        """
        Return the start of a text as :meth:`redact` does, at a cost that the length bounds.

        :param text: What a server said, however long.
        :param length: Characters that are of use.
        """
        return self._secrets.clean_start(text, length)

    def redact_name(self, name: str) -> str:
        """
        Return an id, type or status without the API key; a key of fewer than 8 characters stays.

        :param name: What a server called something.
        """
        return self._key.clean(name)

    def is_repeated_in(self, names: str) -> bool:
        """
        Tell, at little cost, whether :meth:`redact_name` would find the API key in one of many names.

        :param names: Many names in one text.
        """
        return self._key.finds_plain(names)


class _Reader:
    """Reads single fields; every error names the connection and the field."""

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    def wrong(self, name: str, problem: str) -> FlokitConfigError:
        return FlokitConfigError(f"Airflow connection {self.conn_id!r}: {name} {problem}")

    def text(self, name: str, value: object) -> str:
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "is not a text")
        return value or ""

    def api_key(self, password: str | None) -> str:
        key = self.text("API Key (password)", password)
        if not key.strip():
            raise self.wrong(
                "API Key (password)", "is empty. Put a FloKit API key there; triggering syncs needs a read-write one."
            )
        if key != key.strip():
            raise self.wrong(
                "API Key (password)",
                "holds spaces, line breaks or characters that an HTTP header cannot carry, at its edges. Store it "
                "without them; a secret that was read from a file often has a line break last.",
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise self.wrong(
                "API Key (password)",
                "holds spaces, line breaks or characters that an HTTP header cannot carry. Copy the key anew.",
            )
        return key

    def base_url(self, host: str | None, schema: str | None, port: int | None, *, insecure: bool) -> str:
        text = self.text("API URL (host)", host).strip() or DEFAULT_HOST
        problem = "is not host, host:port or http(s)://host[:port]"
        if not text.isprintable():
            raise self.wrong("API URL (host)", problem)
        if is_ipv6(text):
            text = f"[{text}]"
        if "://" not in text:
            text = f"//{text}"
        parts = split(text)
        if parts is None or not is_host(parts.hostname or "") or "@" in parts.netloc:
            raise self.wrong("API URL (host)", problem)
        name, own_port = str(parts.hostname), parts.port
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise self.wrong("API URL (host)", f"{problem}: leave out everything after the host and port")
        separate = self.text("schema", schema).strip().lower().removesuffix("://")
        scheme = self._agreed("schema", parts.scheme, separate) or "https"
        if scheme not in ("http", "https"):
            raise self.wrong("schema" if not parts.scheme else "API URL (host)", "is neither http nor https")
        number = self._agreed("port", own_port, self.port(port))
        if scheme == "http" and not insecure and not is_loopback(name):
            raise self.wrong(
                "API URL (host)",
                "is plain http: the API key would cross the network unencrypted. Use https, or set the extra "
                "allow_insecure_http to true if you accept that.",
            )
        name = f"[{name}]" if ":" in name else name
        return f"{scheme}://{name}" + (f":{number}" if number else "")

    def port(self, port: object) -> int | None:
        if port is None or port == "":
            return None
        number = self._number(port)
        if number is None or not 0 < number < 65536 or number != int(number):  # noqa: PLR2004 - the TCP ports
            raise self.wrong("port", "is not between 1 and 65535")
        return int(number)

    def timeout(self, extras: Mapping[str, Any]) -> float:
        value = self._number(extras.get("timeout", DEFAULT_TIMEOUT))
        if value is None or not 0 < value <= _TIMEOUT_LIMIT:
            raise self.wrong("extra 'timeout'", f"is not a number of seconds above 0, at most {_TIMEOUT_LIMIT:g}")
        return value

    def retry_limit(self, extras: Mapping[str, Any]) -> int:
        value = self._number(extras.get("retry_limit", DEFAULT_RETRY_LIMIT))
        if value is None or not 0 <= value <= _RETRY_LIMIT_LIMIT or value != int(value):
            raise self.wrong("extra 'retry_limit'", f"is not a whole number from 0 to {_RETRY_LIMIT_LIMIT}")
        return int(value)

    def verify(self, extras: Mapping[str, Any]) -> bool | str:
        value = extras.get("verify", True)
        flag = _flag(value)
        if flag is not None:
            return flag
        if not isinstance(value, str) or not os.path.exists(value):  # noqa: PTH110 - Path's raises on odd paths
            raise self.wrong("extra 'verify'", "is neither true, false nor the path of an existing CA bundle")
        return value

    def proxies(self, extras: Mapping[str, Any]) -> Mapping[str, str]:
        value = extras.get("proxies", {})
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        problem = 'is not a JSON object such as {"https": "http://proxy.example:3128"}'
        if not isinstance(value, dict):
            raise self.wrong("extra 'proxies'", problem)
        for name, url in value.items():
            if not isinstance(name, str) or not isinstance(url, str):
                raise self.wrong("extra 'proxies'", problem)
            parts = split(url) if url.isprintable() and " " not in url else None
            if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
                raise self.wrong("extra 'proxies'", f"has no http(s)://host[:port] URL for {shown(name)!r}")
        return dict(value)

    def check_way(self, base_url: str, proxies: Mapping[str, str]) -> None:
        proxy = chosen_proxy(base_url, proxies) if base_url.startswith("http:") else None
        if proxy is not None and not is_loopback(urlsplit(proxy).hostname or ""):
            raise self.wrong(
                "extra 'proxies'",
                "would take the API key over plain http to another machine. Leave the proxy out, or set the extra "
                "allow_insecure_http to true if you accept that.",
            )

    def flag(self, extras: Mapping[str, Any], name: str, *, default: bool) -> bool:
        flag = _flag(extras.get(name, default))
        if flag is None:
            raise self.wrong(f"extra {name!r}", "is neither true nor false")
        return flag

    def _agreed(self, name: str, from_host: _T, separate: _T) -> _T:
        if from_host and separate and from_host != separate:
            raise self.wrong(name, "contradicts the API URL (host); leave one of them out")
        return from_host or separate

    @staticmethod
    def _number(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    return True if text in _TRUE else False if text in _FALSE else None
