"""A running simulator, its clock, and a plain HTTP client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import requests

from airflow_provider_flokit.simulator import Simulator, Sync

Call: TypeAlias = Callable[..., requests.Response]

ID = "int_1"
LIST, ONE, SYNC = "/v1/integrations", f"/v1/integrations/{ID}", f"/v1/integrations/{ID}/sync"


class Clock:
    """Stands at 2024-03-15T13:00:00Z until it is moved."""

    now = 1_710_507_600.0

    def __call__(self) -> float:
        """Return the present moment."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the simulator's clock."""
    return Clock()


@pytest.fixture
def sim(clock: Clock) -> Iterator[Simulator]:
    """Run a simulator on that clock with one integration, whose syncs start after 10 s and take 20 s."""
    with Simulator(clock=clock, sync=Sync(start_delay=10, duration=20)) as simulator:
        simulator.add_integration(ID)
        yield simulator


@pytest.fixture
def call(sim: Simulator) -> Iterator[Call]:
    """Send ``call(method, path, key=..., **kwargs)``, with the read-write key by default."""
    with requests.Session() as session:

        def send(method: str, path: str = LIST, key: str | None = None, **kwargs: Any) -> requests.Response:
            headers = {"Authorization": f"Bearer {key or sim.api_key}", **kwargs.pop("headers", {})}
            return session.request(method, sim.url + path, headers=headers, **{"timeout": 30, **kwargs})

        yield send
