"""Hosts, URLs and proxies: what is one, what stays on this machine, and which proxy a request takes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOPBACK_IPV6: Final = ipaddress.IPv6Address("::1")
_HOST_LENGTH_LIMIT: Final = 253
_LABEL_LENGTH_LIMIT: Final = 63


def split(url: str) -> SplitResult | None:
    """
    Return the parts of a URL, None if it is none or its port is.

    :param url: A URL. The error that is not raised here could hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


def is_host(name: str) -> bool:
    """
    Tell whether a text is a host name or an IP address, without a zone.

    :param name: Without a port, IPv6 without brackets.
    """
    try:
        return bool(ipaddress.ip_address(name)) and "%" not in name
    except ValueError:
        return len(name) <= _HOST_LENGTH_LIMIT and all(map(_is_label, name.removesuffix(".").split(".")))


def is_ipv6(host: str) -> bool:
    """
    Tell whether a host is a bare IPv6 address, as Airflow's URI form gives it.

    :param host: Name or address.
    """
    try:
        return ipaddress.ip_address(host).version == 6  # noqa: PLR2004 - IPv6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """
    Tell whether a host never leaves this machine: ``localhost``, 127.0.0.0/8 or ``::1``.

    :param host: Name or address, without a port.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Which of IPv6's other forms count as loopback depends on the version of Python.
    return address.is_loopback if isinstance(address, ipaddress.IPv4Address) else address == _LOOPBACK_IPV6


def chosen_proxy(base_url: str, proxies: Mapping[str, str]) -> str | None:
    """
    Return the URL of the proxy for a server, None for none.

    :param base_url: The server.
    :param proxies: As requests takes them: ``scheme://host``, ``scheme``, ``all://host`` or ``all`` to URL.
    """
    parts = urlsplit(base_url)
    names = (f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all")
    return next((proxies[name] for name in names if name in proxies), None)


def _is_label(label: str) -> bool:
    return len(label) <= _LABEL_LENGTH_LIMIT and label.isascii() and label.replace("-", "").replace("_", "").isalnum()
