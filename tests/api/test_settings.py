"""The Airflow connection: what its fields accept, and that what they refuse is named."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.errors import FlokitConfigError
from airflow_provider_flokit.hooks.flokit import FlokitHook

KEY = "fk_rw_s3cr3t+/=key"
PROXIES = {"https": "http://user:pr0xyw0rd@proxy.example:3128"}


def settings(**fields: Any) -> FlokitSettings:
    """Read a connection's fields, with a key unless another is given."""
    empty = dict.fromkeys(("host", "schema", "port", "extra"))
    return FlokitSettings.from_connection("flokit_eu", SimpleNamespace(**{**empty, "password": KEY, **fields}))


def test_only_the_key_is_needed() -> None:
    """With nothing but a key, it is FloKit's own host over https, 30 s per request and 4 retries."""
    assert settings() == FlokitSettings("flokit_eu", "https://api.flokit.ai", KEY, 30.0, 4, True, {}, "")  # noqa: FBT003 - all defaults spelt out


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "", "schema": ""}, "https://api.flokit.ai"),
        ({"host": "flokit_api.svc-1.example:8443"}, "https://flokit_api.svc-1.example:8443"),
        ({"host": "https://FloKit.example/"}, "https://flokit.example"),
        ({"host": "flokit.example", "schema": "HTTPS", "port": 8443}, "https://flokit.example:8443"),
        ({"host": "https://flokit.example:8443", "schema": "http", "port": 80}, "https://flokit.example:8443"),
        ({"port": 8443}, "https://api.flokit.ai:8443"),
        ({"host": "http://127.1.2.3"}, "http://127.1.2.3"),
        ({"host": "127.0.0.1:08080", "schema": "http"}, "http://127.0.0.1:8080"),
        # Airflow takes the brackets away from an IPv6 address in a connection URI.
        ({"host": "::1", "schema": "http", "port": 8080}, "http://[::1]:8080"),
        ({"host": "http://flokit.example", "extra": {"allow_insecure_http": True}}, "http://flokit.example"),
    ],
    ids=repr,
)
def test_accepted_addresses(fields: dict[str, Any], base_url: str) -> None:
    """Host may be host, host:port or a URL, or be spread over Airflow's host, schema and port; host wins over them."""
    assert settings(**fields).base_url == base_url


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("timeout", "2.5", 2.5),
        ("timeout", "", 30.0),
        ("retry_limit", 0, 0),
        ("retry_limit", "2", 2),
        ("verify", False, False),
        ("verify", "false", False),
        ("verify", "True", True),
        ("verify", __file__, __file__),
        ("proxies", PROXIES, PROXIES),
        ("proxies", json.dumps(PROXIES), PROXIES),
    ],
    ids=repr,
)
def test_accepted_extras(name: str, value: object, expected: object) -> None:
    """An extra is a JSON value or its text; an empty one counts as absent."""
    assert getattr(settings(extra=json.dumps({name: value})), name) == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"password": None}, "API Key (password) is empty. Put a FloKit API key there"),
        ({"password": f"{KEY}\n"}, "API Key (password) holds characters that an HTTP header cannot carry"),
        ({"password": f"{KEY}é"}, "API Key (password) holds"),
        ({"host": "https://api.flokit.ai/v1"}, "API URL (host) is not host, host:port or http(s)://host[:port]"),
        ({"host": "flokit.example:port"}, "API URL (host)"),
        ({"host": "10.0.0.1:8080:"}, "API URL (host)"),
        ({"host": "[abc]"}, "API URL (host)"),
        ({"host": "[10.0.0.1]"}, "API URL (host)"),
        ({"host": "https://user:word@flokit.example"}, "API URL (host)"),
        ({"host": "ftp://flokit.example"}, "API URL (host)"),
        ({"host": "flokit.example", "schema": "ftp"}, "schema is neither http nor https"),
        ({"port": 65536}, "port is not between 1 and 65535"),
        ({"extra": {"timeout": 0}}, "extra 'timeout' is not a number of seconds above 0"),
        ({"extra": {"timeout": "soon"}}, "extra 'timeout'"),
        ({"extra": {"timeout": "NaN"}}, "extra 'timeout'"),
        ({"extra": {"retry_limit": -1}}, "extra 'retry_limit' is not a whole number, 0 or more"),
        ({"extra": {"retry_limit": 1.5}}, "extra 'retry_limit'"),
        ({"extra": {"retry_limit": True}}, "extra 'retry_limit'"),
        ({"extra": {"verify": "flase"}}, "extra 'verify' is neither true, false nor the path of an existing CA bundle"),
        ({"extra": {"proxies": "http://proxy.example:3128"}}, "extra 'proxies' is not a JSON object such as"),
        ({"extra": {"proxies": {"https": 3128}}}, "extra 'proxies'"),
        ({"extra": {"allow_insecure_http": "maybe"}}, "extra 'allow_insecure_http' is neither true nor false"),
        ({"extra": "{"}, "extra is not a JSON object"),
        ({"extra": "[]"}, "extra is not a JSON object"),
    ],
    ids=repr,
)
def test_refused_fields(fields: dict[str, Any], named: str) -> None:
    """A wrong value is refused; the message names the connection and the field, and shows no secret."""
    with pytest.raises(FlokitConfigError) as caught:
        settings(**{"extra": {"proxies": PROXIES}, **fields})
    assert str(caught.value).startswith(f"Airflow connection 'flokit_eu': {named}")
    assert "s3cr3t" not in str(caught.value)
    assert "pr0xyw0rd" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["http://flokit.example", "http://192.168.0.1", "http://localhost.evil.example", "http://[2001:db8::1]:8080"],
)
def test_no_plain_http_off_loopback(host: str) -> None:
    """The key never goes over plain http to another machine unless that is asked for; the error says how."""
    for extra in (None, {"allow_insecure_http": "false"}):
        with pytest.raises(FlokitConfigError, match=r"API URL \(host\) is plain http: .* allow_insecure_http"):
            settings(host=host, extra=extra)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            "@127.0.0.1:8080/http?timeout=2.5&retry_limit=2&verify=false",
            {"base_url": "http://127.0.0.1:8080", "timeout": 2.5, "retry_limit": 2, "verify": False},
        ),
        ("@[::1]:8080/http", {"base_url": "http://[::1]:8080"}),
        (f"@{quote('https://flokit.example:8443', safe='')}", {"base_url": "https://flokit.example:8443"}),
        (f"@/?{urlencode({'__extra__': json.dumps({'timeout': 5, 'proxies': PROXIES})})}", {"proxies": PROXIES}),
        ({"host": "http://localhost:8080", "extra": {"verify": False}}, {"verify": False}),
    ],
    ids=repr,
)
def test_airflows_own_forms(monkeypatch: pytest.MonkeyPatch, value: Any, expected: dict[str, Any]) -> None:
    """A connection in Airflow's URI and JSON forms comes out as the settings that it says."""
    fields = {"conn_type": "flokit", "password": KEY}
    uri = f"flokit://:{quote(KEY, safe='')}{value}"
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_EU", uri if isinstance(value, str) else json.dumps(fields | value))
    found = FlokitSettings.from_connection("flokit_eu", FlokitHook.get_connection("flokit_eu"))
    assert found.api_key == KEY
    assert {name: getattr(found, name) for name in expected} == expected


def test_no_secret_is_shown() -> None:
    """Neither the key nor a proxy's password is in the repr, and the key is gone from redacted texts, encoded too."""
    found = settings(extra={"proxies": PROXIES})
    assert "flokit_eu" in repr(found)
    assert "s3cr3t" not in repr(found)
    assert "pr0xyw0rd" not in repr(found)
    assert found.redact(f"Bearer {KEY} ({quote(KEY, safe='')})") == "Bearer *** (***)"
