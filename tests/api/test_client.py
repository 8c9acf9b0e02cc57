"""What is sent, to whom, and what is read: the key goes to FloKit alone, and one odd entry harms no other."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme

from airflow_provider_flokit import __version__
from airflow_provider_flokit.api.client import FlokitClient
from airflow_provider_flokit.api.settings import FlokitSettings
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitUnreachableError
from airflow_provider_flokit.hooks.flokit import FlokitHook
from tests.transport_server import CA, INTEGRATION, TransportServer, certified, respond, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks

KEY = "fk_rw_s3cr3t"
BEARER = f"Authorization: Bearer {KEY}\r\n"
NO_IDS = ("", "a/b", "a?b", "a#b", "..", "a b", "{{ x }}", None)

pytestmark = pytest.mark.usefixtures("no_proxy_settings")


def client(url: str, **settings: Any) -> FlokitClient:
    """Return a client of a URL."""
    return FlokitClient(FlokitSettings("flokit_default", url, KEY, **settings))


def ask(flokit: FlokitClient) -> None:
    """Make a call of the hook."""
    flokit.list(0)


def ask_by_session(flokit: FlokitClient) -> None:
    """Send a request by the session that get_conn() returns."""
    flokit.session.get(f"{flokit.settings.base_url}/v1/integrations", timeout=30).raise_for_status()


both_ways = pytest.mark.parametrize("ask", [ask, ask_by_session])


@pytest.fixture
def server() -> Iterator[TransportServer]:
    """Run a server that lists one integration."""
    with TransportServer() as server:
        yield server


# The environment


@both_ways
def test_netrc_does_not_replace_the_key(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[FlokitClient], None]
) -> None:
    """A machine's .netrc, which requests reads otherwise, says nothing about FloKit's key."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    requests.get(server.url, timeout=30)
    ask(client(server.url))
    assert "Authorization: Basic" in server.heads[0]
    assert BEARER in server.heads[1]


@both_ways
def test_a_proxy_of_the_environment_is_used_but_for_loopback(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, ask: Callable[[FlokitClient], None]
) -> None:
    """It would see the key of plain http, and could not reach this machine anyway."""
    with TransportServer() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        ask(client(server.url))
        assert (len(server.heads), proxy.heads) == (1, [])
        ask(client("http://flokit.invalid"))
        assert proxy.heads[0].startswith("GET http://flokit.invalid/v1/integrations ")


@both_ways
@pytest.mark.parametrize("name", ["all", "https"])
def test_proxies_of_the_connection_replace_those_of_the_environment(
    server: TransportServer, monkeypatch: pytest.MonkeyPatch, ask: Callable[[FlokitClient], None], name: str
) -> None:
    """The connection's proxy is asked, however little specific it is."""
    with TransportServer() as other:
        monkeypatch.setenv("https_proxy", other.url)
        monkeypatch.setenv("all_proxy", other.url)
        with pytest.raises((FlokitUnreachableError, requests.ConnectionError)):
            ask(client("https://flokit.invalid", proxies={name: server.url}))
    assert other.heads == []
    assert server.heads[0].startswith("CONNECT flokit.invalid:443")
    assert "Bearer" not in server.heads[0]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("verify", "environment", "works"),
    [
        (True, None, False),
        (True, "ours", True),
        (False, "other", True),
        ("ours", "other", True),
        ("other", "ours", False),
    ],
)
@both_ways
def test_verify_of_the_connection_beats_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[FlokitClient], None],
    verify: bool | str,
    environment: str | None,
    works: bool,
) -> None:
    """REQUESTS_CA_BUNDLE counts where the connection says nothing but true; false and a bundle of its own win."""
    for name, ca in (("ours", CA), ("other", trustme.CA())):
        ca.cert_pem.write_to_path(tmp_path / name)
    if environment:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / environment))
    with TransportServer(tls=certified()) as server:
        flokit = client(server.url, verify=str(tmp_path / verify) if isinstance(verify, str) else verify)
        if works:
            ask(flokit)
        else:
            with pytest.raises((FlokitUnreachableError, requests.exceptions.SSLError)):
                ask(flokit)
    assert len(server.heads) == works


# What is sent


def test_the_session_gives_the_key_to_flokit_only(server: TransportServer, connect: Callable[..., None]) -> None:
    """The key of get_conn()'s session does not go to another host or port, nor through a redirect."""
    connect(server.url, KEY)
    session = FlokitHook().get_conn()
    with TransportServer() as other:
        session.get(f"{server.url.replace('127.0.0.1', 'localhost')}/v1/integrations", timeout=30)
        session.get(f"{other.url}/v1/integrations", timeout=30)
        server.behaviour = send(respond("307 Temporary Redirect", b"", Location=f"{other.url}/v1/integrations"))
        session.get(f"{server.url}/v1/integrations", timeout=30)
    assert [BEARER in head for head in server.heads] == [False, True]
    assert ["Authorization" in head for head in other.heads] == [False, False]


def test_what_is_sent(server: TransportServer) -> None:
    """Every request says who asks and for what; an id is one quoted segment; only a POST has an Idempotency-Key."""
    flokit = client(server.url)
    flokit.list(0)
    server.behaviour = send(respond(body=json.dumps({"integration": {**INTEGRATION, "id": "int:é@x"}}).encode()))
    assert flokit.get("int:é@x").value.id == "int:é@x"
    server.behaviour = send(respond(body=b'{"status": "ok", "sync_id": "sync_1"}'))
    assert flokit.sync("int_1", "my-key").value == "sync_1"
    assert [head.partition(" HTTP/1.1\r\n")[0] for head in server.heads] == [
        "GET /v1/integrations",
        "GET /v1/integrations/int%3A%C3%A9%40x",
        "POST /v1/integrations/int_1/sync",
    ]
    for header in (BEARER, "Accept: application/json\r\n", f"User-Agent: airflow-provider-flokit/{__version__}\r\n"):
        assert all(header in head for head in server.heads)
    assert ["Idempotency-Key: my-key\r\n" in head for head in server.heads] == [False, False, True]
    assert "Idempotency-Key" not in server.heads[0] + server.heads[1]


@pytest.mark.parametrize(
    ("call", "arguments", "says"),
    [
        *((call, [wrong], "integration_id is") for call in ("get_integration", "trigger_sync") for wrong in NO_IDS),
        *(("trigger_sync", ["int_1", wrong], "idempotency_key must be") for wrong in ("", " key", "a\r\nX: 1", "ü", 5)),
    ],
    ids=repr,
)
def test_what_no_request_can_carry_is_refused(
    hook: BothHooks, sim: Simulator, call: str, arguments: list[Any], says: str
) -> None:
    """The error names the parameter; nothing is sent."""
    assert says in str(hook.failure(FlokitArgumentError, call, *arguments))
    assert sim.requests == []


# What is read


def test_a_malformed_entry_is_skipped_with_one_warning(
    server: TransportServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the entry and the field, the others are as ever; an unchanged list is not even read again."""
    flokit = client(server.url)
    for status in ("connected", "syncing"):
        good = {**INTEGRATION, "status": status}
        listed = {"integrations": [{"id": "int_odd", "type": 5, "status": "connected"}, good, "nonsense"]}
        server.behaviour = send(respond(body=json.dumps(listed).encode()))
        answer = flokit.list(0)
        assert [integration.status for integration in answer.value] == [status]
        assert answer.malformed == 2
        assert flokit.list(0).value is answer.value
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2
    assert warned[0] == "FloKit lists an integration that cannot be used, id 'int_odd': 'type' is of the wrong type"


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": "Fri, 15 Mar 2024 12:00:00 GMT"}], ids=str)
def test_the_time_of_an_answer_is_the_servers(server: TransportServer, headers: dict[str, str]) -> None:
    """It is read from the Date header; where there is none, or nonsense, this machine's clock stands in."""
    server.behaviour = send(respond(**headers))
    expected = datetime(2024, 3, 15, 12, tzinfo=UTC) if "GMT" in str(headers) else datetime.now(tz=UTC)
    found = client(server.url).get("int_1").at
    assert expected <= found <= expected + timedelta(minutes=1)
