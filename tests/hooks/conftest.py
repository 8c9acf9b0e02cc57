"""Both hooks as one: every test of the suite runs with FlokitHook and with FlokitAsyncHook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import airflow.providers.common.compat.sdk as airflow_sdk
import pytest

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.simulator.pytest_plugin import flokit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CALLS",
    "CONN",
    "LIST",
    "ONE",
    "SYNC",
    "Connect",
    "Hook",
    "Pauses",
    "connect",
    "failure",
    "flokit",
    "hook",
    "other",
    "pauses",
    "quick_retries",
    "sim",
]

# Airflow 2 imports the DAG's tables with the first connection otherwise, and warns of itself meanwhile.
assert airflow_sdk.DAG

LIST = "/v1/integrations"
ONE = f"{LIST}/int_1"
SYNC = f"{ONE}/sync"
CONN = "(connection 'flokit_default')"

# Ways to call each endpoint, and what the messages call it.
CALLS = [
    pytest.param(("list_integrations",), "listing the integrations", id="list"),
    pytest.param(("get_integration", "int_1"), "reading int_1", id="get"),
    pytest.param(("find_integration", "adjust"), "listing the integrations", id="find"),
    pytest.param(("trigger_sync", "int_1"), "triggering a sync of int_1", id="trigger"),
]

Step: TypeAlias = tuple[Any, ...] | Callable[[], Any]


class Hook:
    """
    One of the two hooks, called without ``await``.

    :param kind: ``sync`` or ``async``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, name: str, *args: Any, conn_id: str = "flokit_default", **kwargs: Any) -> Any:
        """Call a method of a new hook."""
        if self.kind == "sync":
            return getattr(FlokitHook(conn_id), name)(*args, **kwargs)

        async def call() -> Any:
            return await getattr(FlokitAsyncHook(conn_id), name)(*args, **kwargs)

        return asyncio.run(call())

    def in_a_row(self, *steps: Step, entered: bool = True) -> list[Any]:
        """
        Call methods of one hook, inside its context manager or without it, and return what they returned.

        :param steps: a method's name and its arguments, or something else to do in between.
        """
        if self.kind == "sync":
            hook = FlokitHook()
            with hook if entered else nullcontext():
                return [step() if callable(step) else getattr(hook, step[0])(*step[1:]) for step in steps]

        async def run() -> list[Any]:
            hook = FlokitAsyncHook()
            async with hook if entered else nullcontext():
                return [step() if callable(step) else await getattr(hook, step[0])(*step[1:]) for step in steps]

        return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def hook(request: pytest.FixtureRequest) -> Hook:
    """Run the test with each of the hooks."""
    return Hook(request.param)


@pytest.fixture
def sim(flokit: Simulator) -> Simulator:
    """Run a simulator with three integrations, one of them in error."""
    flokit.add_integration("int_1", "stripe")
    flokit.add_integration("int_2", "adjust")
    flokit.add_integration("int_3", "stripe", status="error", error_message="Token expired")
    return flokit


class Connect:
    """Sets the connection ``flokit_default`` anew, with extras or another key."""

    def __init__(self, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sim = sim
        self._monkeypatch = monkeypatch

    def __call__(self, api_key: str | None = None, /, **extra: Any) -> None:
        """Set the connection."""
        self._monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", self._sim.connection_uri(api_key, **extra))


@pytest.fixture
def connect(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Set the connection's extras or key."""
    return Connect(sim, monkeypatch)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for milliseconds between attempts."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.004)


class Pauses:
    """Records the pauses between attempts instead of taking them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def take(self, seconds: float) -> None:
        """Stand in for time.sleep."""
        self.seconds.append(seconds)

    async def take_async(self, seconds: float) -> None:
        """Stand in for asyncio.sleep."""
        self.seconds.append(seconds)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """Let no time pass between attempts; record how long it would have been."""
    recorded = Pauses()
    monkeypatch.setattr("airflow_provider_flokit.hooks.flokit.time", SimpleNamespace(sleep=recorded.take))
    monkeypatch.setattr(
        "airflow_provider_flokit.hooks.flokit.asyncio",
        SimpleNamespace(**{**vars(asyncio), "sleep": recorded.take_async}),
    )
    return recorded


def failure(hook: Hook, kind: type[FlokitError], *call: Any, **kwargs: Any) -> str:
    """Call a hook, expect exactly that error, and return its message, which does not hold the key."""
    with pytest.raises(FlokitError) as caught:
        hook(*call, **kwargs)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "fk_r" not in message
    return message


@pytest.fixture
def other() -> Iterator[Simulator]:
    """Run another server, of another origin."""
    with Simulator() as simulator:
        simulator.add_integration("int_1")
        yield simulator
