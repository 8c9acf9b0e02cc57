"""The deadline of a whole request over requests, and what is left behind when it has come."""

from __future__ import annotations

import gc
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import FlokitUnreachableError
from airflow_provider_flokit.exchange import _HTTPPool
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_flokit.simulator import Simulator


OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def _quick_deadline(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    flokit.add_integration("int_1")
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri(timeout="1", retry_limit="0"))


def within_seconds(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for something that has to become true."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def requests_under_way() -> int:
    """Count the threads that wait for an answer."""
    return sum(thread.name == "flokit-request" for thread in threading.enumerate())


def open_sockets() -> int:
    """Count the sockets of this process, where the system tells them."""
    return sum(is_socket(path) for path in OPEN_FILES.iterdir()) if OPEN_FILES.is_dir() else 0


def is_socket(path: Path) -> bool:
    """Tell whether an open file is a socket; it may be closed meanwhile."""
    try:
        return str(path.readlink()).startswith("socket:")
    except OSError:
        return False


@pytest.mark.parametrize(
    "fault",
    [Fault.trickling_headers(0.01), Fault.trickle(0.01, 1), Fault.slow(60)],
    ids=lambda fault: fault.name,
)
def test_an_answer_that_never_ends_leaves_nothing_behind(flokit: Simulator, fault: Fault) -> None:
    """At the deadline the connection is cut: neither the thread nor the socket waits on for the rest."""
    flokit.fail(fault)
    sockets = open_sockets()
    with FlokitHook() as hook:
        with pytest.raises(FlokitUnreachableError, match="timed out after 1 s"):
            hook.list_integrations()
        assert within_seconds(lambda: requests_under_way() == 0)
        # The same hook goes on with a new connection.
        assert len(hook.list_integrations()) == 1
    assert within_seconds(lambda: open_sockets() <= sockets)


@pytest.fixture
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_closed_hook_leaves_no_socket_to_the_garbage_collector(flokit: Simulator) -> None:
    """An error of urllib3 and its traceback keep each other, and the pool of connections, until they are collected."""
    flokit.fail(Fault.drop())
    sockets = open_sockets()
    with FlokitHook() as hook:
        with pytest.raises(FlokitUnreachableError):
            hook.list_integrations()
        assert len(hook.list_integrations()) == 1
        assert not OPEN_FILES.is_dir() or open_sockets() > sockets
    assert within_seconds(lambda: open_sockets() <= sockets)


@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_thread_that_is_done_breaks_no_request_of_another(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook may be shared by threads: one closes the connections while another is about to take one."""
    sockets = open_sockets()
    about_to, done = threading.Event(), threading.Event()
    monkeypatch.setattr(_HTTPPool, "_get_conn", _pausing_once(_HTTPPool._get_conn, about_to, done))
    hook = FlokitHook()
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(len(hook.list_integrations())))
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri(retry_limit=0))
    other.start()
    assert about_to.wait(10)
    flokit.fail(Fault.drop())
    with pytest.raises(FlokitUnreachableError):
        hook.list_integrations()
    done.set()
    other.join(10)
    assert found == [1]
    assert within_seconds(lambda: open_sockets() <= sockets)


def _pausing_once(function: Callable[..., Any], about_to: threading.Event, done: threading.Event) -> Callable[..., Any]:
    def pausing(*args: Any, **kwargs: Any) -> Any:
        if not about_to.is_set():
            about_to.set()
            done.wait(10)
        return function(*args, **kwargs)

    return pausing


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
