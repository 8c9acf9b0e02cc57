"""Every field of the Airflow connection: what it accepts, what it refuses by name, and that the key stays secret."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode

import airflow.providers.common.compat.sdk as airflow_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.connection import FlokitConnection, is_loopback
from airflow_provider_flokit.errors import FlokitConfigError
from airflow_provider_flokit.hooks.flokit import FlokitHook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Airflow 2 imports the DAG's tables with the first connection otherwise, and warns of itself meanwhile.
assert airflow_sdk.DAG

CONN_ID = "flokit_eu"
KEY = "fk_rw_s3cr3t+/=key"


def settings(**fields: Any) -> FlokitConnection:
    """Check a connection's fields, with a key unless another is given."""
    return FlokitConnection.from_fields(**{"conn_id": CONN_ID, "password": KEY, **fields})


def refusal(**fields: Any) -> str:
    """Return why a connection's fields are refused; the message names the connection, and never the key."""
    with pytest.raises(FlokitConfigError) as caught:
        settings(**fields)
    message = str(caught.value)
    assert f"connection {CONN_ID!r}" in message
    assert KEY not in message
    return message


# Defaults


def test_defaults() -> None:
    """With nothing but a key, it is FloKit's own host over https, 30 s per request and 4 retries."""
    found = settings()
    assert found == FlokitConnection(CONN_ID, "https://api.flokit.ai", KEY, 30.0, 4, True, {})  # noqa: FBT003 - all defaults spelt out
    assert found.api_key == KEY


@pytest.mark.parametrize("host", [None, "", "  "])
@pytest.mark.parametrize("extra", [None, {}, {"timeout": "", "retry_limit": None, "verify": "", "proxies": None}])
def test_empty_fields_are_absent_ones(host: str | None, extra: dict[str, Any] | None) -> None:
    """The form stores empty fields as empty texts or null: they count as absent."""
    assert settings(host=host, schema="", extra=extra) == settings()


def test_unknown_extras_are_ignored() -> None:
    """Other keys in extra are not FloKit's business."""
    assert settings(extra={"team": "data", "__extra__": "x"}) == settings()


# API key


@pytest.mark.parametrize("password", [None, "", " ", "\t\n"])
def test_no_key(password: str | None) -> None:
    """Without a key, the error names the connection and the field and says what to do."""
    message = refusal(password=password)
    assert "API Key (password) is empty" in message
    assert "Put a FloKit API key there" in message


@pytest.mark.parametrize(
    "password", ["two words", "line\nbreak", "end\r\n", " lead", "ключ", "ke\x00y", "ke\x7fy", "k\ud800"]
)
def test_key_that_no_header_can_carry(password: str) -> None:
    """A key with spaces, line breaks or other characters that a header cannot carry is refused, and not shown."""
    message = refusal(password=password)
    assert "API Key (password) holds spaces, line breaks or characters" in message
    assert password.strip() not in message


# Host, schema, port


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "flokit.example"}, "https://flokit.example"),
        ({"host": "flokit.example:8443"}, "https://flokit.example:8443"),
        ({"host": "https://flokit.example"}, "https://flokit.example"),
        ({"host": "https://flokit.example/"}, "https://flokit.example"),
        ({"host": "https://flokit.example:8443"}, "https://flokit.example:8443"),
        ({"host": "HTTPS://FloKit.Example"}, "https://flokit.example"),
        ({"host": "  flokit.example  "}, "https://flokit.example"),
        ({"host": "flokit.example."}, "https://flokit.example."),
        ({"host": "flokit_api.svc-1.example"}, "https://flokit_api.svc-1.example"),
        ({"host": "192.0.2.7"}, "https://192.0.2.7"),
        ({"host": "flokit.example", "schema": "https", "port": 8443}, "https://flokit.example:8443"),
        ({"host": "flokit.example", "schema": "HTTPS"}, "https://flokit.example"),
        ({"host": "flokit.example", "schema": "https://"}, "https://flokit.example"),
        ({"host": "https://flokit.example:8443", "schema": "https", "port": 8443}, "https://flokit.example:8443"),
        ({"port": 8443}, "https://api.flokit.ai:8443"),
        ({"host": "localhost", "schema": "http", "port": 8080}, "http://localhost:8080"),
        ({"host": "http://localhost:8080"}, "http://localhost:8080"),
        ({"host": "http://LOCALHOST:8080"}, "http://localhost:8080"),
        ({"host": "http://127.0.0.1"}, "http://127.0.0.1"),
        ({"host": "http://127.1.2.3:65535"}, "http://127.1.2.3:65535"),
        ({"host": "http://[::1]:8080"}, "http://[::1]:8080"),
        ({"host": "[::1]:8080", "schema": "http"}, "http://[::1]:8080"),
        ({"host": "[2001:db8::1]"}, "https://[2001:db8::1]"),
        ({"host": "[2001:db8::1]:8443"}, "https://[2001:db8::1]:8443"),
        # Airflow takes the brackets away from an IPv6 address in a connection URI.
        ({"host": "::1", "schema": "http", "port": 8080}, "http://[::1]:8080"),
        ({"host": "2001:db8::1", "port": 8443}, "https://[2001:db8::1]:8443"),
    ],
)
def test_base_url(fields: dict[str, Any], base_url: str) -> None:
    """Host may be host, host:port or a URL, or be spread over Airflow's host, schema and port."""
    assert settings(**fields).base_url == base_url


@pytest.mark.parametrize(
    "host",
    [
        "flokit.example:port",
        "flokit.example:99999",
        "flokit.example:-1",
        "flokit.example:0",
        "https://",
        "//",
        ":8080",
        ".",
        "-- . --",
        "flo kit.example",
        "flo\nkit.example",
        "flo\tkit.example",
        "flokit\r\n.example",
        "flökit.example",
        "user@flokit.example",
        "user:word@flokit.example",
        "https://user:word@flokit.example",
        "https://[::1",
        "[not-an-address]",
        "flokit..example",
        "flokit%2eexample",
        "https://api.flokit.ai/v1",
        "https://api.flokit.ai?x=1",
        "https://api.flokit.ai#x",
        "127.0.0.1@evil.example",
        "http://127.0.0.1@evil.example",
        "http://localhost:80@evil.example",
        "http://evil.example\\@127.0.0.1",
        "http://127.0.0.1\\.evil.example",
        "http://evil.example#@127.0.0.1",
        "http://127.0.0.1%2eevil.example",
        "http://127.0.0.1%00.evil.example",
        "http://[::1%25evil.example]",
        "http://[::1%evil.example]",
        "http://\uff11\uff12\uff17.0.0.1",
        "http://ⓛocalhost",
        "x" * 64 + ".example",
        ".".join(["x" * 60] * 5),
        "https//api.flokit.ai",
        "https:api.flokit.ai",
    ],
)
def test_wrong_host(host: str) -> None:
    """A host that is none is refused by the field's name."""
    assert "API URL (host)" in refusal(host=host)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"host": "ftp://flokit.example"}, "API URL (host) is neither http nor https"),
        ({"host": "flokit.example", "schema": "ftp"}, "schema is neither http nor https"),
        ({"host": "flokit.example", "schema": "public"}, "schema is neither http nor https"),
        ({"port": 0}, "port is not between 1 and 65535"),
        ({"port": -1}, "port is not between 1 and 65535"),
        ({"port": 65536}, "port is not between 1 and 65535"),
        ({"host": "https://flokit.example", "schema": "http"}, "schema contradicts the API URL (host)"),
        ({"host": "http://localhost", "schema": "https"}, "schema contradicts the API URL (host)"),
        ({"schema": "http"}, "schema contradicts the API URL (host)"),
        ({"host": "flokit.example:1", "port": 2}, "port contradicts the API URL (host)"),
    ],
)
def test_wrong_schema_or_port(fields: dict[str, Any], named: str) -> None:
    """A wrong schema or port, and one that contradicts the host, is refused by the field's name."""
    assert named in refusal(**fields)


# Plain http


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://flokit.example"},
        {"host": "flokit.example", "schema": "http"},
        {"host": "http://192.168.0.1"},
        {"host": "http://0.0.0.0"},
        {"host": "http://[2001:db8::1]:8080"},
        {"host": "http://localhost.example"},
        {"host": "http://127.0.0.1.example"},
        {"host": "http://169.254.169.254"},
        {"host": "http://localhost.evil.example"},
        {"host": "http://localhost."},
        {"host": "http://127.0.0.1.nip.example:8080"},
        {"host": "http://127.0.0.1."},
        {"host": "http://2130706433"},
        {"host": "http://0x7f.0.0.1"},
        {"host": "http://0177.0.0.1"},
        {"host": "http://127.1"},
        {"host": "http://[::]"},
        {"host": "http://[::ffff:127.0.0.1]"},
        {"host": "http://[::ffff:192.0.2.7]"},
        {"host": "::ffff:127.0.0.1", "schema": "http", "port": 80},
    ],
)
@pytest.mark.parametrize("extra", [{}, {"allow_insecure_http": "false"}, {"allow_insecure_http": False}])
def test_plain_http_is_refused(fields: dict[str, Any], extra: dict[str, Any]) -> None:
    """The key never goes over plain http to another machine; the error says what would allow it."""
    message = refusal(**fields, extra=extra)
    assert "plain http" in message
    assert "allow_insecure_http" in message


@pytest.mark.parametrize("flag", [True, "true", "True", "yes", "on", "1", 1, " TRUE "])
def test_plain_http_where_it_is_allowed(flag: object) -> None:
    """With allow_insecure_http, as a JSON value or its text, plain http to another machine is accepted."""
    found = settings(host="http://flokit.example:8080", extra={"allow_insecure_http": flag})
    assert found.base_url == "http://flokit.example:8080"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", False),
        ("::1%eth0", False),
        ("127.0.0.1.", False),
        ("0.0.0.0", False),  # noqa: S104 - not bound to
        ("::", False),
        ("10.0.0.1", False),
        ("flokit.example", False),
        ("localhost.example", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, *, expected: bool) -> None:
    """Only localhost and loopback addresses never leave this machine."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize("name", ["http", "all", "http://localhost", "all://localhost"])
@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "https://proxy.example", "http://127.0.0.1@x.example"])
def test_plain_http_through_a_proxy_elsewhere_is_refused(name: str, proxy: str) -> None:
    """A proxy on another machine would see the key of a request to this one; the error says what would allow it."""
    extra: dict[str, Any] = {"proxies": {name: proxy}}
    message = refusal(host="http://localhost:8080", extra=extra)
    assert "extra 'proxies' would take the API key over plain http" in message
    assert "allow_insecure_http" in message
    assert settings(host="http://localhost:8080", extra={**extra, "allow_insecure_http": True}).proxies == {name: proxy}
    assert settings(host="https://localhost:8080", extra=extra).proxies == {name: proxy}


@pytest.mark.parametrize("proxies", [{"http": "http://127.0.0.1:3128"}, {"https": "http://proxy.example:3128"}])
def test_plain_http_through_no_proxy_elsewhere(proxies: dict[str, str]) -> None:
    """A proxy on this machine, and one that only https would take, see no key that they should not."""
    assert settings(host="http://localhost:8080", extra={"proxies": proxies}).proxies == proxies


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"password": 12345678}, "API Key (password) is not a text"),
        ({"password": b"fk_rw_bytes"}, "API Key (password) is not a text"),
        ({"password": ["fk_rw_list"]}, "API Key (password) is not a text"),
        ({"host": 5}, "API URL (host) is not a text"),
        ({"schema": True}, "schema is not a text"),
        ({"port": "http"}, "port is not between"),
        ({"port": True}, "port is not between"),
        ({"port": 80.5}, "port is not between"),
        ({"port": []}, "port is not between"),
    ],
)
def test_field_of_another_type(fields: dict[str, Any], named: str) -> None:
    """A secrets backend may hand over anything: what is no text or number is refused by the field's name."""
    assert named in refusal(**fields)


def test_port_as_text() -> None:
    """A port in the text form of some secrets backends is a port; an empty one is none."""
    assert settings(host="flokit.example", port="8443").base_url == "https://flokit.example:8443"
    assert settings(host="flokit.example", port="").base_url == "https://flokit.example"


# Extras


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5.0), (0.5, 0.5), ("5", 5.0), ("2.5", 2.5), (" 7 ", 7.0), (3600, 3600.0), ("1e2", 100.0)],
)
def test_timeout(value: object, expected: float) -> None:
    """The timeout is a number of seconds, as JSON or text."""
    found = settings(extra={"timeout": value}).timeout
    assert (found, type(found)) == (expected, float)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "0",
        "-3",
        "soon",
        "5s",
        True,
        False,
        [],
        {},
        [5],
        3601,
        "inf",
        "nan",
        "-inf",
        float("nan"),
        pytest.param(10**400, id="huge"),
        pytest.param("9" * 400, id="huge text"),
    ],
)
def test_wrong_timeout(value: object) -> None:
    """A timeout that is no number of seconds from above 0 to 3600 is refused by name."""
    assert "extra 'timeout'" in refusal(extra={"timeout": value})


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (2, 2), ("2", 2), ("0", 0), (100, 100), (3.0, 3), ("3.0", 3)])
def test_retry_limit(value: object, expected: int) -> None:
    """The retry limit is a whole number, as JSON or text; 0 means that nothing is retried."""
    found = settings(extra={"retry_limit": value}).retry_limit
    assert (found, type(found)) == (expected, int)


@pytest.mark.parametrize(
    "value", [-1, "-1", 101, 1.5, "1.5", "many", True, False, [], {}, "inf", "nan", pytest.param(10**400, id="huge")]
)
def test_wrong_retry_limit(value: object) -> None:
    """A retry limit that is no whole number from 0 to 100 is refused by name."""
    assert "extra 'retry_limit'" in refusal(extra={"retry_limit": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("false", False),
        ("True", True),
        ("FALSE", False),
        (1, True),
        (0, False),
        ("1", True),
        ("0", False),
        ("no", False),
        (" off ", False),
    ],
)
def test_verify_as_a_flag(value: object, *, expected: bool) -> None:
    """Verify is true or false, as JSON or text; the text "false" really is false."""
    assert settings(extra={"verify": value}).verify is expected


def test_verify_as_a_path(tmp_path: Path) -> None:
    """Verify is the path of a CA bundle, a file or a directory, that exists."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    for path in (bundle, tmp_path):
        assert settings(extra={"verify": str(path)}).verify == str(path)


@pytest.mark.parametrize(
    "value",
    [
        "/no/such/bundle.pem",
        "flase",
        2,
        -1,
        0.5,
        [],
        {},
        "\x00",
        pytest.param("x" * 5000, id="long name"),
        pytest.param("a/" * 5000, id="long path"),
    ],
)
def test_wrong_verify(value: object) -> None:
    """Verify that is neither a flag nor an existing path is refused by name."""
    assert "extra 'verify'" in refusal(extra={"verify": value})


PROXIES = {"https": "http://user:pr0xyw0rd@proxy.example:3128", "http": "https://proxy.example"}


@pytest.mark.parametrize("value", [PROXIES, json.dumps(PROXIES)], ids=["JSON", "text"])
def test_proxies(value: object) -> None:
    """Proxies are an object of URLs, as JSON or text."""
    assert settings(extra={"proxies": value}).proxies == PROXIES


@pytest.mark.parametrize("value", [{}, "{}"])
def test_no_proxies(value: object) -> None:
    """An empty object means none."""
    assert settings(extra={"proxies": value}).proxies == {}


@pytest.mark.parametrize(
    "value",
    [
        "http://proxy.example:3128",
        "{",
        "null",
        "[]",
        [],
        ["http://proxy.example"],
        True,
        5,
        {"https": None},
        {"https": 3128},
        {"https": "proxy.example:3128"},
        {"https": "socks5://proxy.example"},
        {"https": "http://"},
        {"https": "http://proxy.example:port"},
        {"https": "http://proxy.example:0"},
        {"https": "http://[::1"},
        {"https": ""},
        {1: "http://proxy.example"},
        {"https": "http://proxy.example:31\n28"},
        {"https": "http://pro xy.example"},
        {"https": "http://proxy.example\r\nX-A: b"},
        pytest.param("[" * 100_000, id="deeply nested"),
    ],
)
def test_wrong_proxies(value: object) -> None:
    """Proxies that are no object of http(s) URLs are refused by name."""
    assert "extra 'proxies'" in refusal(extra={"proxies": value})


def test_wrong_proxy_does_not_show_its_password() -> None:
    """The refusal of a proxy names the scheme, not the URL, which may hold a password."""
    message = refusal(extra={"proxies": {"https": "socks5://user:pr0xyw0rd@proxy.example"}})
    assert "'https'" in message
    assert "pr0xyw0rd" not in message


@pytest.mark.parametrize("value", ["maybe", 2, -1, 0.5, [], {}, ["true"]])
def test_wrong_allow_insecure_http(value: object) -> None:
    """A flag that is neither true nor false is refused by name, even where it would not matter."""
    assert "extra 'allow_insecure_http'" in refusal(extra={"allow_insecure_http": value})


# Secrecy


def test_repr_holds_no_secret() -> None:
    """Neither the key nor a proxy's password is in the repr."""
    found = settings(extra={"proxies": PROXIES})
    for text in (repr(found), str(found), f"{found}"):
        assert KEY not in text
        assert "pr0xyw0rd" not in text
        assert "flokit_eu" in text


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        f"Bearer {KEY}",
        quote(KEY, safe=""),
        quote(KEY),
        quote_plus(KEY),
        urlencode({"key": KEY}),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(KEY.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        repr(KEY),
        json.dumps({"key": KEY}),
    ],
)
def test_redact(form: str) -> None:
    """The key is taken out of a text as it stands, URL-encoded and in base64, wherever it stands and how often."""
    text = f"<{form}> and {form}{form}!"
    redacted = settings().redact(text)
    assert KEY not in redacted
    assert form not in redacted
    assert "s3cr3t" not in redacted
    assert base64.b64encode(KEY.encode()).decode().rstrip("=") not in redacted
    assert redacted.count("***") == 3
    assert redacted.endswith("!")


@pytest.mark.parametrize("key", ["fk\\rw'\"key", "a%2Fb", "fk-rw~key.1", "fk_rw_?a&b=c d".replace(" ", "+")])
def test_redact_odd_keys(key: str) -> None:
    """Keys with quotes, backslashes and percent signs are taken out in all their forms too."""
    found = settings(password=key)
    for form in (key, quote(key, safe=""), quote_plus(key), repr(key)[1:-1], base64.b64encode(key.encode()).decode()):
        assert found.redact(f"x {form} x") in ("x *** x", "x ***= x", "x ***== x")


def test_redact_proxy_password() -> None:
    """The proxies' passwords are taken out as well."""
    assert settings(extra={"proxies": PROXIES}).redact(f"no {PROXIES['https']} there") == (
        "no http://user:***@proxy.example:3128 there"
    )


def test_redact_proxy_password_decoded() -> None:
    """A proxy's password that is encoded in its URL is taken out in its decoded form as well."""
    found = settings(extra={"proxies": {"https": "http://user:p%40ss%2Fw0rd@proxy.example"}})
    assert found.redact("sent p@ss/w0rd, that is p%40ss%2Fw0rd") == "sent ***, that is ***"


@pytest.mark.parametrize("before", ["", "a", "ab", "Authorization: Bearer "])
@pytest.mark.parametrize("after", ["", "z", "zy", "zyx", "\r\nAccept: */*"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_redact_base64_of_a_longer_text(before: str, after: str, encode: Callable[[bytes], bytes]) -> None:
    """Wherever the key begins in a text that is encoded as a whole, what base64 makes of it is taken out."""
    text = encode(f"{before}{KEY}{after}".encode()).decode()
    left = settings().redact(f"<{text}>")
    assert "***" in left
    # Less is left than the base64 of what is around the key, and its padding.
    assert (
        len(left) <= len("<***>") + len(base64.b64encode(before.encode())) + len(base64.b64encode(after.encode())) + 4
    )


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: quote(quote(text, safe=""), safe=""),
        lambda text: "".join(f"%{ord(c):02x}" for c in text),
        lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
        lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
        lambda text: "".join(f"&#{ord(c)};" for c in text),
        lambda text: "".join(f"&#x{ord(c):X};" for c in text),
        lambda text: json.dumps(json.dumps(text)).replace("/", "\\/"),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
    ],
)
def test_redact_other_encodings(encode: Callable[[str], str]) -> None:
    """URL-encoded twice or in full, escaped for JSON, Python or HTML, and in hexadecimal: the key is taken out."""
    assert settings().redact(f"<{encode(KEY)}>").replace("\\", "").replace('"', "") == "<***>"


def test_names_keep_what_only_resembles_a_short_key() -> None:
    """A short key may be part of an ordinary id or type, and must not make it another; a long one is taken out."""
    assert settings(password="int").redact_name("int_1") == "int_1"
    assert settings().redact_name(f"int_{KEY}") == "int_***"
    assert (
        settings(extra={"proxies": {"https": "http://u:stripe-1@proxy.example"}}).redact_name("stripe-1") == "stripe-1"
    )


def test_redact_leaves_other_texts_alone() -> None:
    """A text without a secret stays as it is."""
    assert settings().redact("HTTP 500: key of workspace w_1 failed") == "HTTP 500: key of workspace w_1 failed"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4), st.text(), st.text())
def test_redacted_text_never_holds_the_key(key: str, before: str, after: str) -> None:
    """Whatever the key and the text around it, the key is gone."""
    redacted = settings(password=key).redact(f"{before} {key} {after}")
    assert key not in redacted or key in f"{before} *** {after}"


# Robustness

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HOSTS = st.none() | st.text() | st.from_regex(r"\A(https?://)?[a-z0-9.\[\]:@%-]{0,20}(:[0-9]{0,6})?[/?#]?\Z")
FLAGS = st.sampled_from(["true", "false", True, False, 0, 1])


@given(
    password=st.none() | st.text() | st.just(KEY),
    host=HOSTS,
    schema=st.none() | st.sampled_from(["http", "https", "ftp", ""]) | st.text(),
    port=st.none() | st.integers(min_value=-1, max_value=70000),
    extra=st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "timeout": st.integers(1, 60) | ANYTHING,
            "retry_limit": st.integers(0, 10) | ANYTHING,
            "verify": FLAGS | ANYTHING,
            "proxies": st.dictionaries(st.text(max_size=5), HOSTS | ANYTHING, max_size=2) | ANYTHING,
            "allow_insecure_http": FLAGS | ANYTHING,
        },
    ),
)
def test_any_fields_are_settings_or_refused(**fields: Any) -> None:
    """Whatever the fields hold, the result is usable settings or a FlokitConfigError, nothing else."""
    try:
        found = FlokitConnection.from_fields(conn_id=CONN_ID, **fields)
    except FlokitConfigError:
        return
    assert found.base_url.startswith(("http://", "https://"))
    assert not set(found.base_url[8:]) & set("/?#@ \n\t")
    assert 0 < found.timeout <= 3600
    assert 0 <= found.retry_limit <= 100


# Through Airflow


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"flokit://:{quote(KEY, safe='')}@", {}),
        (f"flokit://:{quote(KEY, safe='')}@flokit.example", {"base_url": "https://flokit.example"}),
        (
            f"flokit://:{quote(KEY, safe='')}@flokit.example:8443/https",
            {"base_url": "https://flokit.example:8443"},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@127.0.0.1:8080/http?timeout=2.5&retry_limit=2&verify=false",
            {"base_url": "http://127.0.0.1:8080", "timeout": 2.5, "retry_limit": 2, "verify": False},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@[::1]:8080/http",
            {"base_url": "http://[::1]:8080"},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@{quote('https://flokit.example:8443', safe='')}",
            {"base_url": "https://flokit.example:8443"},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@flokit.example/http?allow_insecure_http=true",
            {"base_url": "http://flokit.example"},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@/?{urlencode({'proxies': json.dumps(PROXIES)})}",
            {"proxies": PROXIES},
        ),
        (
            f"flokit://:{quote(KEY, safe='')}@/?"
            + urlencode({"__extra__": json.dumps({"proxies": PROXIES, "timeout": 5})}),
            {"proxies": PROXIES, "timeout": 5.0},
        ),
        (json.dumps({"conn_type": "flokit", "password": KEY}), {}),
        (
            json.dumps(
                {"conn_type": "flokit", "password": KEY, "host": "http://localhost:8080", "extra": {"verify": False}}
            ),
            {"base_url": "http://localhost:8080", "verify": False},
        ),
        (
            json.dumps(
                {
                    "conn_type": "flokit",
                    "password": KEY,
                    "host": "flokit.example",
                    "schema": "https",
                    "port": 8443,
                    "extra": {"timeout": 5, "retry_limit": 0, "proxies": PROXIES},
                }
            ),
            {"base_url": "https://flokit.example:8443", "timeout": 5.0, "retry_limit": 0, "proxies": PROXIES},
        ),
        (
            json.dumps({"conn_type": "flokit", "password": KEY, "extra": '{"timeout": "5", "retry_limit": "1"}'}),
            {"timeout": 5.0, "retry_limit": 1},
        ),
    ],
)
def test_airflow_connection(monkeypatch: pytest.MonkeyPatch, value: str, expected: dict[str, Any]) -> None:
    """A connection in Airflow's URI and JSON forms comes out as the settings that it says."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_EU", value)
    conn = FlokitHook.get_connection(CONN_ID)
    found = settings(
        password=conn.password, host=conn.host, schema=conn.schema, port=conn.port, extra=conn.extra_dejson
    )
    defaults = {
        "base_url": "https://api.flokit.ai",
        "api_key": KEY,
        "timeout": 30.0,
        "retry_limit": 4,
        "verify": True,
        "proxies": {},
    }
    assert {name: getattr(found, name) for name in defaults} == {**defaults, **expected}
