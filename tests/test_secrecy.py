"""The API key is nowhere, whatever goes wrong and however the wait is made; a proxy's password neither."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitConfigError, FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.library_logs import redacted
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Simulator, Sync
from tests.leaks import Evidence, Lines, find
from tests.modes import DEFERRED, RESCHEDULE, WORKER, run
from tests.raw_server import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_provider_flokit.simulator.connection import Connectable

KEY = "fk_rw_S3cr3t+Tok/en=&%41~Zq9"
PASSWORD = "pr0xy:W/rd+S3cr3t@9Zz"
STRIPE = "int_01hx4j7stripe"
OURS = "airflow_provider_flokit"
LONG = "x" * 480
"""Brings the key to where a message is cut."""


# What a server does to the key


def encodings(key: str) -> dict[str, str]:
    """Return the key in the forms in which something between FloKit and us may repeat it."""
    header = f"Authorization: Bearer {key}"
    return {
        "as it is": f"Bearer {key}",
        "URL-encoded": quote(key, safe=""),
        "URL-encoded in lower case": quote(key, safe="").lower().replace(quote(key, safe="").lower(), _lower(key)),
        "URL-encoded twice": quote(quote(key, safe=""), safe=""),
        "as JSON in a text": json.dumps({"Authorization": f"Bearer {key}"}).replace("/", "\\/"),
        "as Python": repr({"Authorization": f'Bearer {key}"'}),
        "in base64": base64.b64encode(key.encode()).decode(),
        "in base64 of the header": base64.b64encode(header.encode()).decode(),
        "in base64 of the header's end": base64.b64encode(f"earer {key}\r\n".encode()).decode(),
        "in base64 of the value": base64.urlsafe_b64encode(f"Bearer {key}!".encode()).decode(),
        "where the message is cut": f"{LONG}{key}",
    }


def _lower(key: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-~" else f"%{ord(c):02x}" for c in key)


def integrations(**fields: Any) -> bytes:
    """Return a list with one integration, some of its fields changed."""
    entry = {"id": STRIPE, "type": "stripe", "status": "connected", "last_synced_at": "2024-03-15T12:00:00Z"}
    return json.dumps({"integrations": [entry | fields], "integration": entry | fields, "sync_id": "s"}).encode()


def answer(status: str = "200 OK", body: bytes | None = None, *headers: str) -> bytes:
    """Return the bytes of an answer."""
    content = integrations() if body is None else body
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + content


FAULTS: dict[str, Fault | None] = {
    "none": None,
    **{str(code): Fault.answer(code) for code in (400, 401, 403, 404, 409, 418, 500, 503, 504)},
    "429": Fault.rate_limited(0),
    "429 with a date": Fault.rate_limited(http_date_in=0),
    "429 with an absurd time": Fault.rate_limited("9" * 400),
    "429 with a day": Fault.rate_limited(86400),
    "429 with nothing": Fault.rate_limited(None),
    "502 with HTML": Fault.answer(502, "html"),
    "200 with HTML": Fault.answer(200, "html"),
    "200 with nothing": Fault.answer(200, "empty"),
    "wrong shape": Fault.wrong_shape(),
    "the same id twice": Fault.wrong_shape({"integrations": [{"id": "a", "type": "b", "status": "c"}] * 2}),
    "a field is missing": Fault.wrong_shape({"integrations": [{"id": STRIPE}], "integration": {"id": STRIPE}}),
    "a malformed time": Fault.answer(200, integrations(last_synced_at="yesterday")),
    "an unknown status": Fault.answer(200, integrations(status="paused")),
    "in error": Fault.answer(200, integrations(status="error", error_message="broken")),
    "drop": Fault.drop(),
    "drop after": Fault.drop_after(),
    "close in the headers": Fault.close_in_headers(),
    "close in the body": Fault.close_in_body(),
    "truncated": Fault.truncated_body(),
    "trickle": Fault.trickle(0.2, 1),
    "slow": Fault.slow(2),
    "large body": Fault.large_body(17),
    "gzip bomb": Fault.gzip_bomb(17),
    "invalid UTF-8": Fault.invalid_utf8(),
    "redirect loop": Fault.redirect_loop(),
    "redirect to another host": Fault.redirect("http://flokit.example/"),
    "redirect to nowhere": Fault.redirect("http://["),
}

ECHOES: dict[str, Callable[[str], bytes]] = {
    **{
        f"the key {how} in a message ({status})": lambda key, how=how, status=status: answer(
            status, json.dumps({"message": f"odd: {encodings(key)[how]} !"}).encode()
        )
        for how in encodings(KEY)
        for status in ("400 Bad Request", "503 Service Unavailable")
    },
    **{
        f"the key {how} as an error_message": lambda key, how=how: answer(
            body=integrations(status="error", error_message=f"token {encodings(key)[how]} refused")
        )
        for how in encodings(KEY)
    },
    "the key as the error": lambda key: answer("500 X", json.dumps({"error": key}).encode()),
    "the key in HTML": lambda key: answer("502 X", f"<html>{key}</html>".encode()),
    "the key in what is no JSON": lambda key: answer(body=f'{{"integrations": "{key}'.encode()),
    "the key as an unknown status": lambda key: answer(body=integrations(status=f"odd {key}")),
    "the key as a type": lambda key: answer(body=integrations(type=key)),
    "the key in an id": lambda key: answer(body=integrations(id=f"int_{key}")),
    "the key as a time": lambda key: answer(body=integrations(last_synced_at=key)),
    "the key where a time is cut": lambda key: answer(body=integrations(last_synced_at="2" * 52 + key)),
    "the key where a time is cut, in UTF-16": lambda key: answer(
        body=integrations(last_synced_at="2" * 52 + key).decode().encode("utf-16")
    ),
    "the key as the id of a malformed entry": lambda key: answer(body=integrations(id=f"{LONG}{key}", type=5)),
    "the key as a sync_id": lambda key: answer(
        body=json.dumps({**json.loads(integrations()), "sync_id": key}).encode()
    ),
    "the key in the status line": lambda key: answer(f"500 Bearer {key}"),
    "the key in headers": lambda key: answer("503 X", None, f"X-Echo: {key}", f'WWW-Authenticate: Bearer t="{key}"'),
    "the key as a header's name": lambda key: answer("200 OK", None, f"{key}: 1"),
    "the key in a malformed header": lambda key: answer("200 OK", None, f"Authorization Bearer {key}"),
    "the key as a cookie": lambda key: answer(
        "200 OK", None, f"Set-Cookie: {key}=1; Path={key}", f"Set-Cookie: a={key}"
    ),
    "the key in Retry-After": lambda key: answer("429 X", None, f"Retry-After: {key}"),
    "the key as Date": lambda key: answer("200 OK", None, f"Date: {key}"),
    "the key as content encoding": lambda key: answer("200 OK", None, f"Content-Encoding: {key}"),
    "the key as content type": lambda key: answer("200 OK", None, f"Content-Type: {key}; charset={key}"),
    "the key as length": lambda key: answer().replace(b"Content-Length: ", f"Content-Length: {key}".encode()),
    "no HTTP but the key": lambda key: f"Bearer {key}\r\n\r\n".encode(),
    "a redirect to the key's host": lambda key: answer("302 X", b"", f"Location: http://{key}.example/"),
    "a redirect to the key's host, cut": lambda key: answer("302 X", b"", f"Location: http://{LONG}{key}.example/"),
    "a redirect with the key's port": lambda key: answer("302 X", b"", f"Location: http://flokit.example:{key}/"),
    "a redirect with the key's user": lambda key: answer("302 X", b"", f"Location: http://u:{key}@flokit.example/"),
    "a redirect to the key's path": lambda key: answer("302 X", b"", f"Location: /v1/integrations/{key}"),
    "a redirect to the key's query": lambda key: answer("307 X", b"", f"Location: /v1/x?token={quote(key)}"),
}


# What is done with the server


def calls_of(kind: type[FlokitHook | FlokitAsyncHook], evidence: Evidence) -> None:
    """Make every call of a hook, and keep what each returned or raised, and all that is alive meanwhile."""
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("test_connection", ()),
        ("list_integrations", ()),
        ("get_integration", (STRIPE,)),
        ("find_integration", ("stripe",)),
        ("trigger_sync", (STRIPE,)),
        ("observe", ((STRIPE, "int_unlisted"),)),
    ]

    def keep(thing: Any) -> None:
        evidence.add(thing)

    if issubclass(kind, FlokitHook):
        with kind() as hook:
            for name, arguments in calls:
                try:
                    keep(getattr(hook, name)(*arguments))
                except FlokitError as error:
                    keep(error)
            keep(vars(hook))
        return

    async def main() -> None:
        async with kind() as hook:
            for name, arguments in calls:
                try:
                    keep(await getattr(hook, name)(*arguments))
                except FlokitError as error:
                    keep(error)
            keep(vars(hook))

    asyncio.run(main())


def operated(mode: str, evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a sync and wait for it with the operator."""

    def make() -> BaseOperator:
        return FlokitTriggerSyncOperator(
            task_id="sync",
            integration_id=STRIPE,
            wait_for_completion=True,
            deferrable=mode == DEFERRED,
            poll_interval=0.02,
            timeout=0.1,
        )

    kept(make, mode, evidence, monkeypatch)


def sensed(mode: str, evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait with the sensor, for an integration that is listed and one that is not."""

    def make() -> BaseOperator:
        return FlokitIntegrationSensor(
            task_id="wait",
            integration_id=[STRIPE, "int_unlisted"],
            deferrable=mode == DEFERRED,
            mode="reschedule" if mode == RESCHEDULE else "poke",
            poke_interval=0.02,
            timeout=0.1,
        )

    kept(make, mode, evidence, monkeypatch)


def kept(make: Callable[[], BaseOperator], mode: str, evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task and keep all that it left."""
    ended = run(make, mode, monkeypatch)
    for thing in (ended, ended.message, ended.xcoms, *ended.traces):
        evidence.add(thing)


MODES: dict[str, Callable[[Evidence, pytest.MonkeyPatch], None]] = {
    "hook": lambda evidence, _: calls_of(FlokitHook, evidence),
    "async hook": lambda evidence, _: calls_of(FlokitAsyncHook, evidence),
    "operator in a worker": lambda evidence, patch: operated(WORKER, evidence, patch),
    "operator deferred": lambda evidence, patch: operated(DEFERRED, evidence, patch),
    "sensor in a worker": lambda evidence, patch: sensed(WORKER, evidence, patch),
    "sensor rescheduled": lambda evidence, patch: sensed(RESCHEDULE, evidence, patch),
    "sensor deferred": lambda evidence, patch: sensed(DEFERRED, evidence, patch),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.004)
    monkeypatch.setattr("airflow_provider_flokit.watch.GRACE", 0.3)
    monkeypatch.setattr("airflow_provider_flokit.triggers.flokit.GRACE", 0.3)


@pytest.fixture
def log() -> Iterator[Lines]:
    """Keep all that is logged, however fine, by us, by the HTTP libraries and by Airflow."""
    lines, root = Lines(), logging.getLogger()
    names = [None, "airflow_provider_flokit", "urllib3", "requests", "aiohttp", "asyncio", "http", "airflow"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(lines)
    yield lines
    root.removeHandler(lines)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def evidence(log: Lines, capfd: pytest.CaptureFixture[str]) -> Iterator[Evidence]:
    """Collect what a test's run leaves; at the end, the key and the proxy's password must be nowhere in it."""
    collected = Evidence()
    yield collected
    printed = capfd.readouterr()
    collected.texts += [*log.lines, printed.out, printed.err]
    assert collected.leaks(KEY) + collected.leaks(PASSWORD) == []


def connect(server: Connectable, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    """Let the default connection lead to a server."""
    settings = {"retry_limit": 1, "timeout": 0.3} | extra
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", server.connection_json(**settings))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAULTS)
def test_the_key_is_nowhere_whatever_fails(
    evidence: Evidence, log: Lines, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """Logs, exceptions, variables, XComs, trigger rows, events and rendered fields hold no form of the key."""
    fault = FAULTS[name]
    with Simulator(api_key=KEY, sync=Sync(duration=0)) as simulator:
        simulator.add_integration(STRIPE)
        if fault is not None:
            simulator.fail(fault, times=None)
        slow = fault is not None and fault.action in ("slow", "trickle", "large_body", "gzip_bomb")
        connect(simulator, monkeypatch, retry_limit=0 if slow else 1)
        MODES[mode](evidence, monkeypatch)
        assert simulator.requests or mode.endswith("deferred")
    assert any("urllib3" in line or "flokit" in line or "aiohttp" in line for line in [*log.lines, *evidence.texts])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ECHOES)
def test_the_key_is_nowhere_whoever_repeats_it(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """A server, or something before it, that sends the key back in any place and form does not bring it to light."""
    with RawServer(ECHOES[name](KEY), KEY) as server:
        connect(server, monkeypatch)
        MODES[mode](evidence, monkeypatch)
        assert all(f"Bearer {KEY}".encode() in head for head in server.heads)
        # On a busy machine, the short wait may be over before a poller's first request.
        assert server.heads or mode.endswith("deferred")


@pytest.mark.parametrize("mode", MODES)
def test_the_key_is_nowhere_without_a_server(evidence: Evidence, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A server that is down, a name that does not resolve and a certificate that nobody signed neither."""
    with Simulator(api_key=KEY) as simulator:
        uri = f"flokit://:{quote(KEY, safe='')}@127.0.0.1:{simulator.port}/https?retry_limit=0&timeout=0.3"
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", uri)
        MODES[mode](evidence, monkeypatch)
        connect(simulator, monkeypatch, retry_limit=0)
    MODES[mode](evidence, monkeypatch)
    uri = f"flokit://:{quote(KEY, safe='')}@flokit.invalid/https?retry_limit=0&timeout=0.3"
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", uri)
    MODES[mode](evidence, monkeypatch)


@pytest.mark.parametrize("how", encodings(PASSWORD))
@pytest.mark.parametrize("mode", ["hook", "async hook", "sensor in a worker", "sensor deferred"])
@pytest.mark.parametrize("source", ["connection", "environment"])
def test_a_proxys_password_is_nowhere(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, source: str, mode: str, how: str
) -> None:
    """A proxy that refuses, and repeats its own password and the key, brings neither to light."""
    body = json.dumps({"message": f"no way: {encodings(PASSWORD)[how]} {KEY}"}).encode()
    with RawServer(answer("407 Proxy Authentication Required", body), KEY) as proxy:
        url = f"http://team:{quote(PASSWORD, safe='')}@127.0.0.1:{proxy.port}"
        extra: dict[str, Any] = {"retry_limit": 0, "timeout": 0.5, "allow_insecure_http": True}
        if source == "connection":
            extra["proxies"] = {"http": url}
        else:
            monkeypatch.setenv("http_proxy", url)
        fields = {"conn_type": "flokit", "password": KEY, "host": "http://flokit.invalid", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))
        MODES[mode](evidence, monkeypatch)
        sent = base64.b64encode(f"team:{PASSWORD}".encode())
        assert proxy.heads
        assert all(b"Proxy-Authorization: Basic " + sent in head for head in proxy.heads)


def test_no_object_of_ours_shows_the_key(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is alive in the middle of a wait, in a worker and in the triggerer, has no secret in its repr."""
    seen: set[str] = set()

    def look() -> None:
        for thing in gc.get_objects():
            module = str(getattr(type(thing), "__module__", ""))
            if module.startswith(OURS) and not module.startswith(f"{OURS}.simulator"):
                seen.add(type(thing).__name__)
                evidence.add(thing)

    entry = {"status": "error", "error_message": f"Bearer {KEY}"}
    with Simulator(api_key=KEY) as simulator:
        simulator.add_integration(STRIPE, status="syncing")
        simulator.add_integration("int_echo", **entry)
        connect(simulator, monkeypatch, timeout=5)
        with FlokitHook() as hook:
            hook.list_integrations()
            look()
        sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE)
        sensor.poke({})
        look()

        async def main() -> None:
            from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

            trigger = FlokitIntegrationTrigger(integration_id=STRIPE, poll_interval=0.02)
            events = trigger.run()
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.3)
            look()
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting

        asyncio.run(main())
    assert {"FlokitConnection", "FlokitHook", "FlokitAsyncHook", "RequestsTransport", "AiohttpTransport"} <= seen
    assert {"Integration", "Snapshot", "LastList", "Poller", "Waiter", "Watch", "Wait"} <= seen


def test_the_serialised_dag_holds_no_key(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the scheduler and the web server read of a DAG names the connection only."""
    from airflow.providers.common.compat.sdk import BaseOperator

    monkeypatch.setenv(
        "AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps({"conn_type": "flokit", "password": KEY, "extra": {"timeout": 1}})
    )
    with DAG("d", schedule=None) as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE, wait_for_completion=True)
        assert isinstance(sync, BaseOperator)
        FlokitIntegrationSensor(task_id="wait", receipt=sync.output["receipt"])
        FlokitIntegrationSensor(task_id="begin", integration_id=STRIPE, start_from_trigger=True)
        FlokitTriggerSyncOperator.partial(task_id="each").expand(integration_id=[STRIPE])
    serialised = json.dumps(serialise(dag))
    assert STRIPE in serialised
    assert "flokit_default" in serialised
    evidence.add(serialised)
    for task in dag.tasks:
        evidence.add(vars(task))


def serialise(dag: DAG) -> Any:
    """Serialise a DAG as the DAG processor does."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization.to_dict(dag)


# Keys that no header can carry


@pytest.mark.parametrize(
    "odd",
    [
        f"{KEY}\r\nX-Admin: 1",
        f"{KEY}\nX-Admin: 1",
        f"{KEY}\n",
        f"{KEY}\r\n",
        f"{KEY}\r",
        f"\n{KEY}",
        f" {KEY}",
        f"{KEY} ",
        f"\t{KEY}",
        f"{KEY}\x00",
        f"{KEY}\x85",
        f"{KEY}\u2028",
        f"{KEY}\u00a0",
        f"\ufeff{KEY}",
        f"{KEY}é",
        f"{KEY}ключ",
        f"Bearer {KEY}",
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_key_that_could_inject_a_header_is_refused(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, mode: str, odd: str
) -> None:
    """It is refused before any request, with an error that names the field and says what is wrong, not what it is."""
    with Simulator(api_key=KEY) as simulator:
        fields = {"conn_type": "flokit", "password": odd, "host": simulator.url}
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))
        MODES[mode](evidence, monkeypatch)
        assert simulator.requests == []
    assert any("API Key (password) holds spaces, line breaks or characters" in text for text in evidence.texts)


@pytest.mark.parametrize("field", ["password", "host", "schema", "port", "extra"])
def test_a_wrong_connection_does_not_show_its_other_fields(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """The refusal of one field leads to no other, not even through the variables of its traceback."""
    proxies = {"https": f"http://team:{quote(PASSWORD, safe='')}@proxy.example"}
    wrong = {
        "password": f"{KEY}\n",
        "host": f"https://user:{KEY}@flokit.example:port",
        "schema": "ftp",
        "port": 70000,
        "extra": {"proxies": proxies, "timeout": "soon"},
    }
    fields = {"conn_type": "flokit", "password": KEY, "extra": {"proxies": proxies}, field: wrong[field]}
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))
    with pytest.raises(FlokitConfigError) as caught:
        FlokitHook().list_integrations()
    evidence.add(caught.value)
    evidence.add(FlokitHook().test_connection())


def test_the_search_finds_what_it_looks_for() -> None:
    """Each form in which the key may be repeated is one that the search would find, or holds one."""
    for how, text in encodings(KEY).items():
        assert find(KEY, f"… {text} …"), how


def test_other_requests_of_the_process_log_as_they_like(log: Lines) -> None:
    """What somebody else's requests log is left as it is."""
    theirs = logging.getLogger("urllib3.connectionpool"), logging.getLogger("aiohttp.client")
    with redacted(lambda text: text.replace(KEY, "***")):
        for logger in theirs:
            logger.warning("ours, of %s", KEY)
    for logger in theirs:
        logger.warning("theirs, about %s", "a cookie")
    assert len([line for line in log.lines if "theirs, about a cookie" in line]) == 2
    assert [line for line in log.lines if "ours, of" in line] == ["urllib3.connectionpool WARNING ours, of *** None"]
