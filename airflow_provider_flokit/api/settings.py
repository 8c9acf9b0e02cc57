"""Check the fields of an Airflow connection of type ``flokit`` and turn them into settings."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_provider_flokit.errors import FlokitConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_HOST: Final = "https://api.flokit.ai"
_URL: Final = re.compile(r"(?:(https?)://)?((?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?")
"""The field host in lower case: scheme and port are optional."""


@dataclass(frozen=True, slots=True)
class FlokitSettings:
    """The checked settings of one connection; its repr shows no secret."""

    conn_id: str  # for messages
    base_url: str  # scheme, host and port, without a trailing slash
    api_key: str = field(repr=False)
    timeout: float = 30.0  # seconds for connecting, for each wait for data, and from the request to the end of the body
    retry_limit: int = 4  # attempts per request after the first
    verify: bool | str = True  # or the path of the CA bundle
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)  # as requests takes them; may hold passwords
    warning: str = ""  # of extras that are not known; often a typing error

    @classmethod
    def from_connection(cls, conn_id: str, conn: Any) -> FlokitSettings:
        """Check the fields of an Airflow connection; the error for a wrong one names the connection and the field."""
        try:
            extras = _extras(conn.extra)
            unknown = shown(", ".join(name for name in extras if name not in EXTRAS))
            known = {name: extras[name] for name in EXTRAS if name in extras}
            insecure = known.pop("allow_insecure_http", False)
            return cls(
                conn_id=conn_id,
                base_url=_base_url(conn.host, conn.schema, conn.port, insecure=insecure),
                api_key=_api_key(conn.password),
                warning=f"Extras that have no effect: {unknown}. Known extras: {', '.join(EXTRAS)}." if unknown else "",
                **known,
            )
        except FlokitConfigError as error:
            raise FlokitConfigError(f"Airflow connection {conn_id!r}: {error}.") from None

    def redact(self, text: str) -> str:
        """Replace the API key, plain or percent-encoded, by ``***`` in a text that FloKit wrote."""
        return text.replace(self.api_key, "***").replace(quote(self.api_key, safe=""), "***")


def is_loopback(host: str) -> bool:
    """Tell whether a host, in lower case and without port, is this machine."""
    address = _address(host)
    return host.rstrip(".") == "localhost" if address is None else address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


EXTRAS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "timeout": (lambda v: type(v) in (int, float) and 0 < v < math.inf, "is not a number of seconds above 0"),
    "retry_limit": (lambda v: type(v) is int and v >= 0, "is not a whole number, 0 or more"),
    "verify": (
        lambda v: isinstance(v, bool) or (isinstance(v, str) and Path(v).exists()),
        "is neither true, false nor the path of an existing CA bundle",
    ),
    "proxies": (
        lambda v: isinstance(v, dict) and all(isinstance(url, str) for url in v.values()),
        'is not a JSON object such as {"https": "http://proxy.example:3128"}',
    ),
    "allow_insecure_http": (lambda v: isinstance(v, bool), "is neither true nor false"),
}
"""Each extra: how to tell that its value is right, and what is wrong otherwise."""


def _extras(extra: Any) -> dict[str, Any]:
    """Return the extras that are not empty, known ones checked; their values may be JSON values or texts."""
    fields = _decoded(extra or {})
    if not isinstance(fields, dict):
        raise FlokitConfigError("extra is not a JSON object")
    extras = {name: value for name, text in fields.items() if (value := _decoded(text)) not in (None, "")}
    for name, (is_right, problem) in EXTRAS.items():
        if name in extras and not is_right(extras[name]):
            raise FlokitConfigError(f"extra {name!r} {problem}")
    return extras


def _decoded(value: Any) -> Any:
    """Return the JSON value that a text stands for, as in Airflow's URI form; other texts stay as they are."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(value, value))
    except (TypeError, ValueError):
        return value


def _api_key(password: str | None) -> str:
    if not password:
        raise FlokitConfigError(
            "API Key (password) is empty. Put a FloKit API key there; triggering syncs needs a read-write one"
        )
    if not re.fullmatch(r"[!-~]+", password):
        raise FlokitConfigError(
            "API Key (password) holds characters that an HTTP header cannot carry, such as a line break at its end. "
            "Copy it anew"
        )
    return password


def _base_url(host: str | None, schema: str | None, port: int | None, *, insecure: bool) -> str:
    """Return scheme, host and port; those in the field host win over the fields schema and port."""
    text = (host or DEFAULT_HOST).strip().lower()
    if text.count(":") > 1 and "://" not in text and "[" not in text:
        text = f"[{text}]"  # an IPv6 address, as Airflow's URI form gives it
    url = _URL.fullmatch(text)
    if url is None or ("[" in url[2] and not isinstance(_address(url[2]), IPv6Address)):
        raise FlokitConfigError("API URL (host) is not host, host:port or http(s)://host[:port] alone")
    scheme, name, number = url[1] or (schema or "https").lower(), url[2], url[3] or port
    if scheme not in ("http", "https"):
        raise FlokitConfigError("schema is neither http nor https")
    if number and int(number) not in range(1, 65536):
        raise FlokitConfigError("port is not between 1 and 65535")
    if scheme == "http" and not is_loopback(name) and not insecure:
        raise FlokitConfigError(
            "API URL (host) is plain http: the API key would cross the network unencrypted. Use https, or accept that "
            "with the extra allow_insecure_http set to true"
        )
    return f"{scheme}://{name}" + (f":{int(number)}" if number else "")
