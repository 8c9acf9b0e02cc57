"""The deadline of a whole request over requests, and what is left behind when it has come."""

from __future__ import annotations

import gc
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.errors import FlokitUnreachableError
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator


OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def _quick_deadline(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    flokit.add_integration("int_1")
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri(timeout="0.2", retry_limit="0"))


def within_seconds(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for something that has to become true."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def requests_under_way() -> int:
    """Count the threads that wait for an answer."""
    return sum(thread.name == "flokit-request" for thread in threading.enumerate())


def open_files() -> int:
    """Count the files and sockets of this process, where the system tells them."""
    return sum(1 for _ in OPEN_FILES.iterdir()) if OPEN_FILES.is_dir() else 0


@pytest.mark.parametrize(
    "fault",
    [Fault.trickling_headers(0.01), Fault.trickle(0.01, 1), Fault.slow(60)],
    ids=lambda fault: fault.name,
)
def test_an_answer_that_never_ends_leaves_nothing_behind(flokit: Simulator, fault: Fault) -> None:
    """At the deadline the connection is cut: neither the thread nor the socket waits on for the rest."""
    flokit.fail(fault)
    sockets = open_files()
    with FlokitHook() as hook:
        with pytest.raises(FlokitUnreachableError, match=r"timed out after 0\.2 s"):
            hook.list_integrations()
        assert within_seconds(lambda: requests_under_way() == 0)
        # The same hook goes on with a new connection.
        assert len(hook.list_integrations()) == 1
    assert within_seconds(lambda: open_files() <= sockets)


@pytest.mark.parametrize("fault", [Fault.drop(), Fault.slow(60)], ids=lambda fault: fault.name)
def test_a_closed_hook_leaves_no_socket_to_the_garbage_collector(flokit: Simulator, fault: Fault) -> None:
    """An error of urllib3 and its traceback keep each other, and the pool of connections, until they are collected."""
    flokit.fail(fault)
    gc.collect()
    gc.disable()
    try:
        sockets = open_files()
        with FlokitHook() as hook:
            with pytest.raises(FlokitUnreachableError):
                hook.list_integrations()
            assert len(hook.list_integrations()) == 1
            assert open_files() > sockets
        assert within_seconds(lambda: open_files() <= sockets)
    finally:
        gc.enable()


def test_one_thread_at_a_time(flokit: Simulator) -> None:
    """However many requests a hook makes, none of their threads is left."""
    with FlokitHook() as hook:
        for _ in range(20):
            hook.list_integrations()
    assert within_seconds(lambda: requests_under_way() == 0)
    assert len(flokit.requests) == 20


def test_what_interrupts_the_caller_ends_the_request(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is killed or timed out in the middle of a request does not wait for its answer."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri())
    flokit.fail(Fault.slow(60))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGALRM))
    before = signal.signal(signal.SIGALRM, _interrupt)
    began = time.monotonic()
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            FlokitHook().list_integrations()
    finally:
        timer.join()
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
    assert within_seconds(lambda: requests_under_way() == 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
