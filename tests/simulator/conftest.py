"""A running simulator and a plain HTTP client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import requests

from airflow_provider_flokit.simulator import ManualClock, Simulator, Sync

Call: TypeAlias = Callable[..., requests.Response]
Read: TypeAlias = Callable[[], dict[str, Any]]

ID = "int_1"
LIST, ONE, SYNC = "/v1/integrations", f"/v1/integrations/{ID}", f"/v1/integrations/{ID}/sync"


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock at 2024-03-15T13:00:00Z that moves only by hand."""
    return ManualClock()


@pytest.fixture
def sim(clock: ManualClock) -> Iterator[Simulator]:
    """Run a simulator on that clock with one integration, whose syncs start after 10 s and take 20 s."""
    with Simulator(clock=clock, sync=Sync(start_delay=10, duration=20)) as simulator:
        simulator.add_integration(ID)
        yield simulator


@pytest.fixture
def call(sim: Simulator) -> Iterator[Call]:
    """Send ``call(method, path, key=..., **kwargs)`` with the read-write key."""
    with requests.Session() as session:
        session.trust_env = False

        def send(method: str, path: str = LIST, key: str | None = "", **kwargs: Any) -> requests.Response:
            headers = dict(kwargs.pop("headers", {}))
            if key is not None:
                headers["Authorization"] = f"Bearer {key or sim.api_key}"
            return session.request(method, sim.url + path, headers=headers, **{"timeout": 5, **kwargs})

        yield send


@pytest.fixture
def read(call: Call) -> Read:
    """Read the integration singly."""

    def one() -> dict[str, Any]:
        document: dict[str, Any] = call("GET", ONE).json()["integration"]
        return document

    return one


@pytest.fixture
def post(call: Call) -> Call:
    """Trigger a sync of the integration, with an Idempotency-Key if one is given."""

    def trigger(idempotency_key: str | None = None, **kwargs: Any) -> requests.Response:
        return call("POST", SYNC, headers={"Idempotency-Key": idempotency_key} if idempotency_key else {}, **kwargs)

    return trigger
