"""What all tests of triggers have in common: they may be coroutines, and nothing pauses for long."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from airflow_provider_flokit.api import retry
from tests.triggers.polls import TriggerLogs


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine in an event loop of its own, two minutes at most; what it leaves running is cancelled."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None

    async def main() -> None:
        async with asyncio.timeout(120):
            await pyfuncitem.obj(
                **{name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
            )

    asyncio.run(main())
    return True


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    monkeypatch.setattr(retry, "BACKOFF_CAP", 0.1)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> TriggerLogs:
    """Return what triggers log, by whose log it goes to."""
    return TriggerLogs(monkeypatch)
