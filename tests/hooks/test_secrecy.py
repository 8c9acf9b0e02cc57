"""The API key is in no log line, exception, repr or answer of the Test button, whoever repeats it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_provider_flokit.errors import FlokitConfigError, FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from tests.leaks import forms_of, shown_by
from tests.transport_server import INTEGRATION, TransportServer, certified, respond, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.both_hooks import BothHooks
    from tests.transport_server import Behaviour

KEY = "fk_rw_S3cr3t+Tok/en=&%41~Zq9"

pytestmark = pytest.mark.usefixtures("no_proxy_settings", "pauses")

CALLS: list[tuple[Any, ...]] = [
    ("test_connection",),
    ("list_integrations",),
    ("get_integration", "int_1"),
    ("find_integration", "stripe"),
    ("trigger_sync", "int_1"),
    ("observe", ["int_1", "int_9"]),
]


def echo(status: str, before: str = "", **headers: str) -> Behaviour:
    """Answer with an error message that repeats the key, as it is and percent-encoded."""
    message = f"{before}Bearer {KEY} ({quote(KEY, safe='')}) has expired"
    return send(respond(status, json.dumps({"message": message}).encode(), **headers))


def listed(**fields: Any) -> Behaviour:
    """Answer every read with an integration that has these fields."""
    integration = {**INTEGRATION, **fields}
    return send(respond(body=json.dumps({"integrations": [integration], "integration": integration}).encode()))


ANSWERS: dict[str, Behaviour] = {
    "all is well": listed(),
    "400": echo("400 Bad Request"),
    "409": echo("409 Conflict"),
    "503": echo("503 Service Unavailable"),
    "cut in a long message": echo("400 Bad Request", "x" * 475),
    "redirect": echo("302 Found", Location=f"http://127.0.0.1:9/?key={KEY}"),
    "encoded redirect": echo("302 Found", Location=f"/login?next={quote(KEY, safe='')}"),
    "error_message": listed(status="error", error_message=f"Bearer {KEY} ({quote(KEY, safe='')}) has expired"),
    "malformed field": listed(type=[KEY]),
    "malformed time": listed(last_synced_at=KEY),
    "malformed statistics": listed(sync_stats={"events_total": KEY}),
    "reason": send(respond(f"500 {KEY}", b"")),
    "no JSON": send(respond(body=f"Authorization: Bearer {KEY}".encode())),
    "no HTTP": send(f"{KEY}\r\n".encode()),
    "cut": send(respond(body=KEY.encode(), length=999)),
}


@pytest.fixture
def evidence(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[list[Any]]:
    """Collect what a test leaves; at the end, the key must be nowhere in it, nor in what was logged or printed."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "airflow_provider_flokit")
    collected: list[Any] = []
    yield collected
    collected += [(record.getMessage(), record.args, record.exc_text) for record in caplog.records]
    collected += capfd.readouterr()
    assert [text for text in map(shown_by, collected) if any(form in text for form in forms_of(KEY))] == []


def make_all_calls(hook: BothHooks, evidence: list[Any]) -> None:
    """Make every call of a hook, and keep what each returned or raised."""
    for call in CALLS:
        try:
            evidence.append(hook(*call))
        except FlokitError as error:
            evidence.append(error)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_key_is_nowhere_whatever_is_answered(
    hook: BothHooks, connect: Callable[..., None], evidence: list[Any], name: str
) -> None:
    """The server has seen the key, and most of these send it back."""
    with TransportServer(ANSWERS[name]) as server:
        connect(server.url, KEY, retry_limit=1)
        make_all_calls(hook, evidence)
    assert len(server.heads) >= len(CALLS) == len(evidence)
    assert all(f"Authorization: Bearer {KEY}\r\n" in head for head in server.heads)


def test_the_key_is_nowhere_without_an_answer(
    hook: BothHooks, connect: Callable[..., None], evidence: list[Any]
) -> None:
    """Nor with a certificate that nobody trusts, a server that is down, and a proxy that is not there."""
    with TransportServer(tls=certified()) as server:
        connect(server.url, KEY, retry_limit=1)
        make_all_calls(hook, evidence)
    make_all_calls(hook, evidence)
    connect("https://flokit.invalid", KEY, retry_limit=1, proxies={"all": server.url.replace("https", "http")})
    make_all_calls(hook, evidence)
    assert server.heads == []
    assert sum(isinstance(thing, FlokitError) for thing in evidence) == 3 * (len(CALLS) - 1)


@pytest.mark.parametrize(
    ("url", "key", "extra"),
    [
        ("https://flokit.example", f"{KEY}\n", {}),
        ("https://flokit.example", f"{KEY}é", {}),
        (f"https://user:{KEY}@flokit.example", KEY, {}),
        ("https://flokit.example", KEY, {"timeout": KEY}),
    ],
    ids=["key with a line break", "key with an accent", "key in the URL", "key in an extra"],
)
def test_a_field_that_is_refused_is_not_shown(
    hook: BothHooks, connect: Callable[..., None], evidence: list[Any], url: str, key: str, extra: Any
) -> None:
    """The error says what is wrong with it, not what it is."""
    connect(url, key, **extra)
    make_all_calls(hook, evidence)
    assert sum(isinstance(thing, FlokitConfigError) for thing in evidence) == len(CALLS) - 1


def test_no_object_shows_the_key(connect: Callable[..., None], evidence: list[Any]) -> None:
    """Neither a hook, nor its client, its settings and its session."""
    with TransportServer() as server, FlokitHook() as hook:
        connect(server.url, KEY)
        hook.list_integrations()
        client: Any = hook._client
        assert client.settings.api_key == KEY
        evidence += [hook, vars(hook), client, vars(client), client.settings, hook.get_conn(), vars(hook.get_conn())]
        evidence += [client.session.auth, FlokitAsyncHook()]
