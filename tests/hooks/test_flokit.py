"""Both hooks: what each call answers, what the Test button says, and how calls of an event loop begin and end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_flokit.api.attempts import Attempts
from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitConfigError,
    FlokitConnectionNotFoundError,
    FlokitNotFoundError,
    FlokitResponseError,
    FlokitServerError,
    FlokitSyncAlreadyRunningError,
)
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.simulator import Fault
from tests.checkout import REPOSITORY
from tests.transport_server import LISTED, TransportServer, hang, respond, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks

LIST = "/v1/integrations"
NAMES = ", ".join(f"int_{number} (stripe)" for number in range(10))


# Calls


@pytest.mark.usefixtures("sim")
def test_list_integrations(hook: BothHooks) -> None:
    """All integrations come with their state."""
    assert [(i.id, i.type, i.status, i.error_message) for i in hook("list_integrations")] == [
        ("int_1", "stripe", "connected", None),
        ("int_2", "adjust", "connected", None),
        ("int_3", "stripe", "error", "Token expired"),
    ]


def test_get_integration(hook: BothHooks, sim: Simulator) -> None:
    """One integration comes with its statistics."""
    found = hook("get_integration", "int_1")
    assert (found.id, found.type, found.status) == ("int_1", "stripe", "connected")
    assert found.sync_stats.events_total == sim.integration("int_1").events_total
    assert "int_9" in str(hook.failure(FlokitNotFoundError, "get_integration", "int_9"))


@pytest.mark.usefixtures("sim")
def test_find_integration(hook: BothHooks) -> None:
    """The one integration of a type is found; none or several is an error that lists what there is."""
    assert hook("find_integration", "adjust").id == "int_2"
    several = str(hook.failure(FlokitAmbiguousTypeError, "find_integration", "stripe"))
    assert "say which one with integration_id: int_1, int_3" in several
    none = str(hook.failure(FlokitNotFoundError, "find_integration", "adapty"))
    assert "The workspace has: int_1 (stripe), int_2 (adjust), int_3 (stripe)." in none
    hook.failure(FlokitNotFoundError, "find_integration", "")


def test_find_integration_beside_a_malformed_one(hook: BothHooks, connect: Callable[..., None]) -> None:
    """A type that only a malformed entry may have is not called missing: a later attempt may tell."""
    with TransportServer(send(respond(body=LISTED.replace(b"[", b'[{"id": "int_odd"}, ')))) as server:
        connect(server.url)
        assert hook("find_integration", "stripe").id == "int_1"
        assert "but 1 in it cannot be read" in str(hook.failure(FlokitResponseError, "find_integration", "adjust"))


def test_trigger_sync(hook: BothHooks, sim: Simulator) -> None:
    """A sync starts and its id is returned; while one runs, a second may be refused with an error of its own."""
    assert hook("trigger_sync", "int_1", "my key 1") == sim.syncs[0].sync_id
    assert sim.requests[0].idempotency_key == "my key 1"
    sim.fail(409, method="POST")
    error = hook.failure(FlokitSyncAlreadyRunningError, "trigger_sync", "int_1")
    assert abs(error.at.timestamp() - time.time()) < 60
    assert not isinstance(error, AirflowFailException)


def test_observe(hook: BothHooks, sim: Simulator) -> None:
    """A look holds the list and its time; what the list does not hold is read singly before it is called missing."""
    sim.fail(Fault.answer(200, LISTED), path=LIST)
    sim.fail(503, path=f"{LIST}/int_3")
    seen = hook("observe", ["int_1", "int_2", "int_3", "int_9"])
    assert set(seen.integrations) == {"int_1", "int_2"}
    unread = {name: type(error) for name, error in seen.unread.items()}
    assert unread == {"int_9": FlokitNotFoundError, "int_3": FlokitServerError}
    assert sim.requests[0].path == LIST
    assert sorted(r.path for r in sim.requests[1:]) == [f"{LIST}/int_{number}" for number in (2, 3, 9)]


def test_a_look_reads_the_airflow_connection_once(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many integrations it reads singly: a secrets backend may be slow."""
    read, reads = FlokitHook.get_connection, []
    monkeypatch.setattr(FlokitHook, "get_connection", staticmethod(lambda name: reads.append(name) or read(name)))
    FlokitHook().observe(["int_7", "int_8", "int_9"])
    assert len(sim.requests) == 4
    assert reads == ["flokit_default"]


def test_calls_of_a_block_share_a_session(sim: Simulator, connect: Callable[..., None]) -> None:
    """It stays the same until a look finds the Airflow connection changed, and is closed at the end."""
    with FlokitHook() as hook:
        hook.list_integrations()
        first = hook.get_conn()
        hook.observe([])
        assert hook.get_conn() is first
        connect(sim.url, sim.rotate_key())
        hook.observe([])
        last = hook.get_conn()
        assert last is not first
    assert [len(session.get_adapter(sim.url).poolmanager.pools) for session in (first, last)] == [0, 0]


# The connection


def test_an_undefined_connection_may_be_there_at_a_retry(hook: BothHooks) -> None:
    """A secrets backend that is away looks just the same, so Airflow is to spend its retries on it."""
    with pytest.raises(FlokitConnectionNotFoundError) as caught:
        hook("list_integrations", conn_id="flokit_nowhere")
    assert not isinstance(caught.value, AirflowFailException)
    assert "Airflow connection 'flokit_nowhere' is not defined. Add it with the type 'flokit'" in str(caught.value)
    ok, message = hook("test_connection", conn_id="flokit_nowhere")
    assert (ok, "is not defined" in message) == (False, True)


def test_a_wrong_connection_is_final(hook: BothHooks, sim: Simulator, connect: Callable[..., None]) -> None:
    """No retry mends a wrong field; it is named, by the Test button too, and nothing is asked."""
    connect(sim.url, retry_limit="many")
    error = hook.failure(FlokitConfigError, "list_integrations")
    assert isinstance(error, AirflowFailException)
    says = "extra 'retry_limit' is not a whole number, 0 or more."
    assert str(error) == f"Airflow connection 'flokit_default': {says}"
    assert hook("test_connection") == (False, f"this connection: {says}")
    assert sim.requests == []


def test_unknown_extras_are_warned_of(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The Test button names them too."""
    connect(sim.url, time_out=5)
    hook("list_integrations")
    (warned,) = (record.getMessage() for record in caplog.records if "time_out" in record.getMessage())
    assert warned.startswith("Airflow connection 'flokit_default': Extras that have no effect: time_out. Known")
    ok, message = hook("test_connection")
    assert (ok, "Extras that have no effect: time_out." in message) == (True, True)


# The Test button


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([], "Connected: 0 integrations"),
        (["connected"], "Connected: 1 integration (1 connected): int_0 (stripe)"),
        (["error", "paused", "connected"], f"Connected: 3 integrations (1 connected, 1 error, 1 paused): {NAMES[:46]}"),
        (["connected"] * 12, f"Connected: 12 integrations (12 connected): {NAMES} and 2 more"),
    ],
    ids=["none", "one", "several", "more than ten"],
)
def test_the_test_button_tells_what_one_needs_next(
    hook: BothHooks, flokit: Simulator, states: list[str], text: str
) -> None:
    """It says how many integrations there are, in which states, and the ids of ten."""
    for number, status in enumerate(states):
        flokit.add_integration(f"int_{number}", "stripe", status=status)
    assert hook("test_connection") == (True, text)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (401, "FloKit, listing the integrations: HTTP 401: Invalid or missing API key. Put a valid API key into"),
        (404, "HTTP 404: Not found. Check the connection's API URL (host)."),
        (Fault.answer(200, "html"), "it is not JSON. Check the connection's API URL (host); it may not be FloKit's"),
    ],
    ids=["401", "404", "HTML"],
)
@pytest.mark.usefixtures("pauses")
def test_the_test_button_tells_what_is_wrong(hook: BothHooks, sim: Simulator, fault: Any, text: str) -> None:
    """It says what to do, without the connection's id, which Airflow's form makes up."""
    sim.fail(fault, times=None)
    ok, message = hook("test_connection")
    assert not ok
    assert text in message
    assert "flokit_default" not in message


# From an event loop


async def cancel_once(has_come: Callable[[], object]) -> None:
    """Make a call and cancel it as soon as something has come."""
    call = asyncio.create_task(FlokitAsyncHook().list_integrations())
    await asyncio.to_thread(has_come)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def wait_until_no_call_is_left() -> None:
    """Wait for the threads of calls that nobody awaits any more."""
    for thread in threading.enumerate():
        if thread.name == "flokit-call":
            thread.join(60)
            assert not thread.is_alive()


def test_a_call_that_is_cancelled_during_a_request_sends_no_other(
    connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt under way ends by itself, after its event loop; what becomes of it is not logged."""
    cancelled = threading.Event()

    def drop(_: Any) -> None:
        assert cancelled.wait(60)

    with TransportServer(drop) as server:
        connect(server.url)
        asyncio.run(cancel_once(lambda: server.wait_for_heads(1)))
        caplog.clear()
        cancelled.set()
        wait_until_no_call_is_left()
    assert len(server.heads) == 1
    assert caplog.text == ""


def test_a_call_that_is_cancelled_in_a_pause_sends_no_other(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause ends at once, and with it the call."""
    pausing, pause = threading.Event(), Attempts.pause

    def pause_long(self: Attempts, _: float) -> None:
        pausing.set()
        pause(self, 300)

    monkeypatch.setattr(Attempts, "pause", pause_long)
    sim.fail(503)
    asyncio.run(cancel_once(lambda: pausing.wait(60)))
    wait_until_no_call_is_left()
    assert [request.status for request in sim.requests] == [503]


def test_a_slow_call_holds_up_no_other(connect: Callable[..., None]) -> None:
    """Thirty calls that hang, more than an executor has threads, and one more: it is answered meanwhile."""
    hanging = threading.Semaphore(30)

    def behave(exchange: Any) -> None:
        (hang if hanging.acquire(blocking=False) else send(respond(body=LISTED)))(exchange)

    async def main(server: TransportServer) -> None:
        calls = [asyncio.create_task(FlokitAsyncHook().list_integrations()) for _ in range(30)]
        await asyncio.to_thread(server.wait_for_heads, 30)
        assert len(await FlokitAsyncHook().list_integrations()) == 1
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)

    with TransportServer(behave) as server:
        connect(server.url, timeout=300)
        asyncio.run(main(server))


HANGING_TRIGGERER = """
import asyncio, signal
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook

async def main():
    call = asyncio.create_task(FlokitAsyncHook().list_integrations())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, call.cancel)
    await asyncio.wait([call])
    print("cancelled", call.cancelled())

asyncio.run(main())
"""


def test_sigterm_ends_a_process_during_a_request(connect: Callable[..., None]) -> None:
    """A triggerer that is told to end cancels its triggers; a request under way, of 300 s, does not hold it up."""
    with TransportServer(hang) as server:
        connect(server.url, timeout=300)
        process = subprocess.Popen(
            [sys.executable, "-c", HANGING_TRIGGERER],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        server.wait_for_heads(1)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "cancelled True" in printed
