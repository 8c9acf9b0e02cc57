"""What is sent, to whom, and what is read: the key goes to FloKit alone, and one odd entry harms no other."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_flokit import __version__
from airflow_provider_flokit.api.attempts import Attempts
from airflow_provider_flokit.api.client import FlokitClient
from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitRequestError, FlokitUnreachableError
from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.certificates import tls_of
from tests.transport_server import INTEGRATION, LISTED, TransportServer, respond, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks

KEY = "fk_rw_s3cr3t"
BEARER = f"Authorization: Bearer {KEY}\r\n"

pytestmark = pytest.mark.usefixtures("no_proxy_settings")


def client(url: str, **settings: Any) -> FlokitClient:
    """Return a client of a URL."""
    return FlokitClient(FlokitSettings("flokit_default", url, KEY, **settings))


@pytest.fixture
def server() -> Iterator[TransportServer]:
    """Run a server that lists one integration."""
    with TransportServer() as server:
        yield server


# Whoever uses get_conn() meets the same rules as the hooks' own calls.


def ask(url: str) -> None:
    """Make a call of the hook."""
    client(url).list(Attempts(0))


def ask_by_session(url: str) -> None:
    """Send a request by the session that get_conn() returns."""
    client(url).session.get(f"{url}/v1/integrations", timeout=30).raise_for_status()


both_ways = pytest.mark.parametrize("ask", [ask, ask_by_session])


@both_ways
def test_netrc_does_not_replace_the_key(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[str], None]
) -> None:
    """A machine's .netrc, which requests reads otherwise, says nothing about FloKit's key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    requests.get(server.url, timeout=30)
    assert "Authorization: Basic" in server.heads[0]
    ask(server.url)
    assert BEARER in server.heads[1]


@both_ways
def test_a_proxy_of_the_environment_is_used(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], None]
) -> None:
    """A host that is not this machine is reached through the environment's proxy."""
    monkeypatch.setenv("http_proxy", server.url)
    ask("http://flokit.invalid")
    assert server.heads[0].startswith("GET http://flokit.invalid/v1/integrations ")


@both_ways
def test_loopback_is_never_reached_through_a_proxy_of_the_environment(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], None]
) -> None:
    """A proxy would see the key of plain http, and could not reach this machine anyway."""
    with TransportServer() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        ask(server.url)
    assert proxy.heads == []
    assert BEARER in server.heads[0]


@pytest.mark.parametrize("name", ["all", "https"])
def test_proxies_of_the_connection_replace_those_of_the_environment(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The connection's proxy is asked, however little specific it is, and its exceptions (no_proxy) do not count."""
    with TransportServer() as other:
        monkeypatch.setenv("https_proxy", other.url)
        monkeypatch.setenv("all_proxy", other.url)
        flokit = client("https://flokit.invalid", proxies={name: server.url})
        with pytest.raises(FlokitUnreachableError):
            flokit.list(Attempts(0))
        with pytest.raises(requests.ConnectionError):
            flokit.session.get("https://flokit.invalid", timeout=30)
    assert other.heads == []
    assert [head.split(" HTTP")[0] for head in server.heads] == ["CONNECT flokit.invalid:443"] * 2
    assert not any("Bearer" in head for head in server.heads)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("verify", "environment", "works"),
    [
        (True, None, False),
        (True, "loopback.pem", True),
        (True, "other-host.pem", False),
        (False, "other-host.pem", True),
        ("loopback.pem", "other-host.pem", True),
        ("other-host.pem", "loopback.pem", False),
    ],
)
def test_verify_of_the_connection_beats_the_environment(
    certificates: Path, monkeypatch: pytest.MonkeyPatch, verify: bool | str, environment: str | None, *, works: bool
) -> None:
    """REQUESTS_CA_BUNDLE counts where the connection says nothing but true; false and a bundle of its own win."""
    if environment:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / environment))
    with TransportServer(tls=tls_of(certificates / "loopback.pem")) as server:
        flokit = client(server.url, verify=str(certificates / verify) if isinstance(verify, str) else verify)
        for call in (lambda: flokit.list(Attempts(0)), lambda: flokit.session.get(server.url, timeout=30)):
            if works:
                call()
            else:
                with pytest.raises((FlokitUnreachableError, requests.exceptions.SSLError)):
                    call()
    assert len(server.heads) == (2 if works else 0)


# The key's way


def test_the_session_gives_the_key_to_flokit_only(server: TransportServer, connect: Callable[..., None]) -> None:
    """get_conn() returns a requests.Session; its key does not go to another port, nor through a redirect."""
    connect(server.url, KEY)
    session = FlokitHook().get_conn()
    assert isinstance(session, requests.Session)
    assert session.get(f"{server.url}/v1/integrations", timeout=30).content == LISTED
    with TransportServer() as other:
        session.get(f"{other.url}/v1/integrations", timeout=30)
        session.get(f"{server.url.replace('127.0.0.1', 'localhost')}/v1/integrations", timeout=30)
        server.behaviour = send(respond("307 Temporary Redirect", b"", Location=f"{other.url}/v1/integrations"))
        session.get(f"{server.url}/v1/integrations", timeout=30)
        assert len(other.heads) == 2
        assert not any("Authorization" in head for head in other.heads)
    assert ["Authorization" in head for head in server.heads] == [True, False, True]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(server: TransportServer, status: str) -> None:
    """Not even within the host: a POST could come out as a GET, and a key where it does not belong."""
    with TransportServer() as other:
        server.behaviour = send(respond(status, b"moved", Location=f"{other.url}/v1"))
        with pytest.raises(FlokitRequestError, match=f"HTTP {status[:3]} leads to {other.url}/v1, and the API key is"):
            client(server.url).sync("int_1", None, Attempts(0))
    assert (len(server.heads), other.heads) == (1, [])


def test_headers(server: TransportServer) -> None:
    """Every request says who asks and for what; only a POST carries an Idempotency-Key."""
    flokit = client(server.url)
    flokit.list(Attempts(0))
    server.behaviour = send(respond(body=b'{"status": "ok", "sync_id": "sync_1"}'))
    assert flokit.sync("int_1", "my-key", Attempts(0)).value == "sync_1"
    listing, posting = server.heads
    for head in (listing, posting):
        assert BEARER in head
        assert "Accept: application/json\r\n" in head
        assert f"User-Agent: airflow-provider-flokit/{__version__}\r\n" in head
    assert listing.startswith("GET /v1/integrations HTTP/1.1\r\n")
    assert posting.startswith("POST /v1/integrations/int_1/sync HTTP/1.1\r\n")
    assert "Idempotency-Key" not in listing
    assert "Idempotency-Key: my-key\r\n" in posting


# What is asked


@pytest.mark.parametrize(("integration_id", "segment"), [("int:1@x", "int%3A1%40x"), ("int_é", "int_%C3%A9")])
def test_an_id_is_one_quoted_segment(server: TransportServer, integration_id: str, segment: str) -> None:
    """An id cannot lead anywhere else."""
    server.behaviour = send(respond(body=json.dumps({"integration": {**INTEGRATION, "id": integration_id}}).encode()))
    assert client(server.url).get(integration_id, Attempts(0)).value.id == integration_id
    assert server.heads[0].startswith(f"GET /v1/integrations/{segment} ")


@pytest.mark.parametrize(
    "integration_id", ["", "a/b", "a?b", "a#b", ".", "..", "a..b", "a b", "a\nb", "{{ x }}", None, 5]
)
@pytest.mark.parametrize("call", ["get_integration", "trigger_sync"])
def test_what_is_no_id_is_refused_before_any_request(
    hook: BothHooks, sim: Simulator, call: str, integration_id: Any
) -> None:
    """The error names the parameter."""
    error = hook.failure(FlokitArgumentError, call, integration_id)
    assert "integration_id is" in str(error)
    assert sim.requests == []


@pytest.mark.parametrize("key", ["", " key", "key\r\nX-Admin: 1", "schlüssel", 5])
def test_an_idempotency_key_that_no_header_can_carry_is_refused(hook: BothHooks, sim: Simulator, key: Any) -> None:
    """It is refused before any request, with an error that names the parameter."""
    error = hook.failure(FlokitArgumentError, "trigger_sync", "int_1", key)
    assert "idempotency_key must be" in str(error)
    assert sim.requests == []


# What is read


def test_a_malformed_entry_is_skipped_with_one_warning(
    server: TransportServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is listed; the warning names the entry and the field, and the others are as ever."""
    flokit = client(server.url)
    for moved in range(3):
        good = {**INTEGRATION, "last_synced_at": f"2024-03-15T13:00:0{moved}Z"}
        listed = {"integrations": [{"id": "int_odd", "type": 5, "status": "connected"}, good, "nonsense"]}
        server.behaviour = send(respond(body=json.dumps(listed).encode()))
        answer = flokit.list(Attempts(0))
        assert [integration.id for integration in answer.value] == ["int_1"]
        assert answer.malformed == 2
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message for message in warned if "'int_odd'" in message] == [
        "FloKit lists an integration that cannot be used, id 'int_odd': 'type' is of the wrong type"
    ]
    assert len(warned) == 2


def test_the_same_answer_is_the_same_list(server: TransportServer) -> None:
    """Thousands of waits look at one list again and again: what has not changed is not read anew."""
    flokit = client(server.url)
    first, second = flokit.list(Attempts(0)), flokit.list(Attempts(0))
    assert first.value is second.value
    server.behaviour = send(respond(body=LISTED.replace(b"connected", b"syncing")))
    assert flokit.list(Attempts(0)).value[0].status == "syncing"


def test_the_time_of_an_answer_is_the_servers(server: TransportServer) -> None:
    """It is read from the Date header; where there is none, or nonsense, this machine's clock stands in."""
    server.behaviour = send(respond(Date="Fri, 15 Mar 2024 12:00:00 GMT"))
    assert client(server.url).get("int_1", Attempts(0)).at == datetime(2024, 3, 15, 12, tzinfo=UTC)
    for headers in ({"Date": "yesterday"}, {}):
        server.behaviour = send(respond(**headers))
        before = datetime.now(tz=UTC)
        assert before <= client(server.url).get("int_1", Attempts(0)).at <= before + timedelta(minutes=1)
