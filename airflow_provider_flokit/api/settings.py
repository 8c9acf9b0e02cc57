"""Check the fields of an Airflow connection of type ``flokit`` and turn them into settings."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from airflow_provider_flokit.errors import FlokitConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_HOST: Final = "https://api.flokit.ai"
EXTRAS: Final = ("timeout", "retry_limit", "verify", "proxies", "allow_insecure_http")

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?|\[[0-9A-Fa-f:.]+\]")
_FLAGS: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


@dataclass(frozen=True, slots=True)
class FlokitSettings:
    """
    The checked settings of one connection.

    :param conn_id: Id of the Airflow connection, for messages.
    :param base_url: Scheme, host and port, without a trailing slash.
    :param api_key: The API key; not in the repr.
    :param timeout: Seconds for connecting, for each wait for data, and from the request to the end of the body.
    :param retry_limit: Attempts per request after the first.
    :param verify: Whether to check TLS certificates, or the path of the CA bundle to check them with.
    :param proxies: Proxies as requests takes them. If empty, those of the environment are used. Not in the repr: the
        URLs may hold passwords.
    :param unknown_extras: Names of extras that have no effect; often a typing error.
    """

    conn_id: str
    base_url: str
    api_key: str = field(repr=False)
    timeout: float = 30.0
    retry_limit: int = 4
    verify: bool | str = True
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    unknown_extras: tuple[str, ...] = ()

    @classmethod
    def from_connection(cls, conn_id: str, conn: Any) -> FlokitSettings:
        """
        Check the fields of an Airflow connection; a :class:`FlokitConfigError` names the connection and the field.

        The values of ``extra`` may be JSON values or texts; empty values are ignored.
        """
        reader = _Reader(conn_id, conn.extra)
        insecure = reader.flag("allow_insecure_http")
        return cls(
            conn_id=conn_id,
            base_url=reader.base_url(conn.host, conn.schema, conn.port, insecure=insecure),
            api_key=reader.api_key(conn.password),
            timeout=reader.number("timeout", 30.0, above=0),
            retry_limit=int(reader.number("retry_limit", 4, whole=True)),
            verify=reader.verify(),
            proxies=reader.proxies(),
            unknown_extras=tuple(name for name in reader.extras if name not in EXTRAS),
        )

    def redact(self, text: str) -> str:
        """Replace the API key, plain or percent-encoded, by ``***`` in a text that FloKit wrote."""
        return text.replace(self.api_key, "***").replace(quote(self.api_key, safe=""), "***")


def is_loopback(host: str) -> bool:
    """Tell whether a host, without port and brackets, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class _Reader:
    """Reads single fields; every error names the connection and the field."""

    def __init__(self, conn_id: str, extra: Any) -> None:
        self.conn_id = conn_id
        if isinstance(extra, str):
            try:
                extra = json.loads(extra or "{}")
            except ValueError:
                extra = ...
        if not isinstance(extra, dict | None):
            raise self.wrong("extra", "is not a JSON object")
        self.extras = {name: value for name, value in (extra or {}).items() if value not in (None, "")}

    def wrong(self, name: str, problem: str) -> FlokitConfigError:
        return FlokitConfigError(f"Airflow connection {self.conn_id!r}: {name} {problem}.")

    def api_key(self, password: str | None) -> str:
        if not password:
            problem = "is empty. Put a FloKit API key there; triggering syncs needs a read-write one"
            raise self.wrong("API Key (password)", problem)
        if not re.fullmatch(r"[!-~]+", password):
            problem = "holds characters that an HTTP header cannot carry, such as a line break at its end. Copy it anew"
            raise self.wrong("API Key (password)", problem)
        return password

    def base_url(self, host: str | None, schema: str | None, port: int | None, *, insecure: bool) -> str:
        """Return scheme, host and port; the field host may have all three, schema and port are separate fields."""
        text = (host or DEFAULT_HOST).strip().removesuffix("/")
        if text.count(":") > 1 and "://" not in text and "[" not in text:
            text = f"[{text}]"  # an IPv6 address, as Airflow's URI form gives it
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            own_port = parts.port
        except ValueError:
            parts, own_port = urlsplit(""), None
        name = parts.netloc.removesuffix(f":{own_port}")
        if not _HOST.fullmatch(name) or parts.path or parts.query or parts.fragment:
            raise self.wrong("API URL (host)", "is not host, host:port or http(s)://host[:port] alone")
        schema = (schema or "").lower()
        for field_name, own, separate in (("schema", parts.scheme, schema), ("port", own_port, port)):
            if own and separate and str(own) != str(separate):
                raise self.wrong(field_name, "contradicts the API URL (host); leave one of them out")
        scheme = parts.scheme or schema or "https"
        if scheme not in ("http", "https"):
            raise self.wrong("API URL (host)" if parts.scheme else "schema", "is neither http nor https")
        if scheme == "http" and not is_loopback(str(parts.hostname)) and not insecure:
            problem = "is plain http: the API key would cross the network unencrypted. Use https, or accept that with "
            raise self.wrong("API URL (host)", f"{problem}the extra allow_insecure_http set to true")
        number = own_port or port
        if number and number not in range(1, 65536):
            raise self.wrong("port", "is not between 1 and 65535")
        return f"{scheme}://{name.lower()}" + (f":{number}" if number else "")

    def number(self, name: str, default: float, *, above: float = -1, whole: bool = False) -> float:
        value = self.extras.get(name, default)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (above < number < math.inf) or (whole and number != int(number)):
            kind = "whole number, 0 or more" if whole else f"number of seconds above {above:g}"
            raise self.wrong(f"extra {name!r}", f"is not a {kind}")
        return number

    def flag(self, name: str) -> bool:
        flag = _FLAGS.get(str(self.extras.get(name, False)).lower())
        if flag is None:
            raise self.wrong(f"extra {name!r}", "is neither true nor false")
        return flag

    def verify(self) -> bool | str:
        value = str(self.extras.get("verify", True))
        flag = _FLAGS.get(value.lower())
        if flag is None and not Path(value).exists():
            raise self.wrong("extra 'verify'", "is neither true, false nor the path of an existing CA bundle")
        return value if flag is None else flag

    def proxies(self) -> Mapping[str, str]:
        value = self.extras.get("proxies", {})
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if not isinstance(value, dict) or not all(isinstance(url, str) for url in value.values()):
            raise self.wrong("extra 'proxies'", 'is not a JSON object such as {"https": "http://proxy.example:3128"}')
        return value


def unknown_extras_warning(settings: FlokitSettings) -> str:
    """Return a warning about unknown extras, "" if there are none."""
    if not settings.unknown_extras:
        return ""
    names = shown(", ".join(settings.unknown_extras))
    return f"Extras that have no effect: {names}. Known extras: {', '.join(EXTRAS)}."
