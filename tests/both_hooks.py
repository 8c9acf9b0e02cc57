"""Both hooks as one: what is shown with these fixtures holds for FlokitHook and for FlokitAsyncHook."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import airflow.providers.common.compat.sdk as airflow_sdk
import pytest

from airflow_provider_flokit.api.attempts import Attempts
from airflow_provider_flokit.errors import FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator

# Airflow 2 imports the DAG's tables with the first connection otherwise, and warns of itself meanwhile.
assert airflow_sdk.DAG

KEY = "fk_rw_simulator"


class BothHooks:
    """One of the two hooks, called without ``await``."""

    def __init__(self, kind: type[FlokitHook | FlokitAsyncHook]) -> None:
        self.kind = kind

    def __call__(self, name: str, *args: Any, conn_id: str = "flokit_default") -> Any:
        """Call a method of a new hook and return its result."""
        if self.kind is FlokitHook:
            return getattr(FlokitHook(conn_id), name)(*args)
        return asyncio.run(getattr(FlokitAsyncHook(conn_id), name)(*args))

    def failure(self, kind: type[FlokitError], name: str, *args: Any) -> Any:
        """Call a method, expect exactly that error, and return it."""
        with pytest.raises(FlokitError) as caught:
            self(name, *args)
        assert type(caught.value) is kind, caught.value
        return caught.value


@pytest.fixture(params=[FlokitHook, FlokitAsyncHook], ids=["sync", "async"])
def hook(request: pytest.FixtureRequest) -> BothHooks:
    """Run the test with each of the hooks."""
    return BothHooks(request.param)


@pytest.fixture
def sim(flokit: Simulator) -> Simulator:
    """Run a simulator with three integrations, one of them in error."""
    flokit.add_integration("int_1", "stripe")
    flokit.add_integration("int_2", "adjust")
    flokit.add_integration("int_3", "stripe", status="error", error_message="Token expired")
    return flokit


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what lets the connection ``flokit_default`` lead to a URL, with these extras."""

    def connect(url: str, password: str = KEY, **extra: Any) -> None:
        fields = {"conn_type": "flokit", "host": url, "password": password, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))

    return connect


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take no pause between attempts, but record how long each would have been."""
    recorded: list[float] = []
    monkeypatch.setattr(Attempts, "pause", lambda _, seconds: recorded.append(seconds))
    return recorded


@pytest.fixture
def no_proxy_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the environment say anything of proxies or certificates."""
    for name in ("no_proxy", "http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
