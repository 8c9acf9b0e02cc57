"""What is measured: FloKit's trigger, a trigger that only sleeps, and the peers' own triggers, one function each."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.triggers.base import BaseTrigger

INTERVAL: Final = 5.0
"""Seconds between two polls of a wait."""

_LONG: Final = 86_400.0


@dataclass(frozen=True)
class Subject:
    """
    One kind of trigger and what it needs around it.

    :param name: What the command line calls it.
    :param title: What the table calls it.
    :param connection: The fields of its Airflow connection, whose upstream listens on this port.
    :param trigger: Builds the trigger of the wait of this number.
    :param answer: The upstream's answer to a request, by its path and whether the job is done; None: no such server.
    :param waits_in_thread: Whether a poll stops the event loop until it is answered, so that no interval can be kept.
    """

    name: str
    title: str
    connection: Callable[[int], dict[str, Any]]
    trigger: Callable[[int], BaseTrigger]
    answer: Callable[[str, bool], Any] | None = None
    waits_in_thread: bool = False

    @property
    def conn_id(self) -> str:
        """The Airflow connection that its triggers use."""
        return f"bench_{self.name}"

    def environment(self, port: int) -> dict[str, str]:
        """
        Return the environment variable that holds the connection.

        :param port: Where the upstream listens.
        """
        return {f"AIRFLOW_CONN_{self.conn_id.upper()}": json.dumps(self.connection(port))}


def flokit(number: int) -> BaseTrigger:
    """Build this package's trigger: wait for an integration of one's own."""
    from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

    return FlokitIntegrationTrigger(
        integration_id=f"int_{number}", flokit_conn_id="bench_flokit", poll_interval=INTERVAL, timeout=_LONG
    )


def sleeping(number: int) -> BaseTrigger:
    """Build the trigger that only sleeps: what a wait costs if it does nothing."""
    from benchmarks.sleeping import SleepingTrigger

    return SleepingTrigger(number, INTERVAL)


def fivetran(number: int) -> BaseTrigger:
    """Build airflow-provider-fivetran-async's trigger; its API's address is fixed in the hook's class."""
    from airflow.providers.common.compat.sdk import timezone
    from airflow.sdk import BaseHook
    from fivetran_provider_async.hooks import FivetranHookAsync
    from fivetran_provider_async.triggers import FivetranTrigger

    if FivetranHookAsync.api_protocol != "http":
        FivetranHookAsync.api_protocol = "http"
        FivetranHookAsync.api_host = BaseHook.get_connection("bench_fivetran").host
    return FivetranTrigger(
        task_id="wait",
        connector_id=f"connector_{number}",
        fivetran_conn_id="bench_fivetran",
        previous_completed_at=timezone.datetime(2026, 1, 1),
        poke_interval=INTERVAL,
    )


def dbt(number: int) -> BaseTrigger:
    """Build apache-airflow-providers-dbt-cloud's trigger; its hook knows https only, which would cost it more."""
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    if not hasattr(DbtCloudHook, "bench_url"):
        DbtCloudHook.bench_url = DbtCloudHook.get_request_url_params

        def over_http(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
            url, params = DbtCloudHook.bench_url(*args, **kwargs)
            return url.replace("https:", "http:", 1), params

        DbtCloudHook.get_request_url_params = staticmethod(over_http)
    return DbtCloudRunJobTrigger(
        conn_id="bench_dbt", run_id=number, end_time=time.time() + _LONG, poll_interval=INTERVAL, account_id=1
    )


def census(number: int) -> BaseTrigger:
    """Build airflow-provider-census's trigger."""
    from airflow_provider_census.triggers.census import CensusTrigger

    return CensusTrigger(sync_run_id=number, census_conn_id="bench_census", poll_interval=INTERVAL)


def airbyte(number: int) -> BaseTrigger:
    """Build apache-airflow-providers-airbyte's trigger, whose request stops the event loop until it is answered."""
    from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

    return AirbyteSyncTrigger(
        job_id=number, conn_id="bench_airbyte", end_time=time.time() + _LONG, poll_interval=INTERVAL
    )


def _fivetran_answer(path: str, done: bool) -> Any:  # noqa: FBT001 - the state of a job is yes or no
    return {
        "code": "Success",
        "data": {
            "id": path.rpartition("/")[2],
            "service": "stripe",
            "schedule_type": "manual",
            "paused": False,
            "succeeded_at": "2026-06-01T00:00:00.000000Z" if done else "2025-06-01T00:00:00.000000Z",
            "failed_at": None,
            "status": {
                "setup_state": "connected",
                "sync_state": "scheduled" if done else "syncing",
                "update_state": "on_schedule",
                "is_historical_sync": False,
                "tasks": [],
                "warnings": [],
            },
        },
    }


def _dbt_answer(path: str, done: bool) -> Any:  # noqa: FBT001 - as above
    number = int(path.rstrip("/").rpartition("/")[2])
    return {"status": {"code": 200, "is_success": True}, "data": {"id": number, "status": 10 if done else 3}}


def _census_answer(path: str, done: bool) -> Any:  # noqa: FBT001 - as above
    number = int(path.rpartition("/")[2])
    return {"status": "success", "data": {"id": number, "status": "completed" if done else "working"}}


def _airbyte_answer(path: str, done: bool) -> Any:  # noqa: FBT001 - as above
    return {
        "jobId": int(path.rpartition("/")[2]),
        "status": "succeeded" if done else "running",
        "jobType": "sync",
        "startTime": "2026-06-01T00:00:00Z",
        "connectionId": "0b6d3d4e-0000-4000-8000-000000000000",
    }


SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject(
            "flokit",
            "FloKit",
            lambda port: {"conn_type": "flokit", "host": f"http://127.0.0.1:{port}", "password": "fk_bench"},
            flokit,
        ),
        Subject("sleeping", "only sleeps", lambda _: {"conn_type": "generic"}, sleeping),
        Subject(
            "census",
            "Census",
            lambda port: {"conn_type": "census", "host": f"http://127.0.0.1:{port}", "password": "bench"},
            census,
            _census_answer,
        ),
        Subject(
            "dbt",
            "dbt Cloud",
            lambda port: {"conn_type": "dbt_cloud", "host": f"127.0.0.1:{port}", "login": "1", "password": "bench"},
            dbt,
            _dbt_answer,
        ),
        Subject(
            "fivetran",
            "Fivetran",
            lambda port: {"conn_type": "fivetran", "host": f"127.0.0.1:{port}", "login": "a", "password": "b"},
            fivetran,
            _fivetran_answer,
        ),
        Subject(
            "airbyte",
            "Airbyte",
            lambda port: {"conn_type": "airbyte", "host": f"http://127.0.0.1:{port}/api/public/v1"},
            airbyte,
            _airbyte_answer,
            waits_in_thread=True,
        ),
    )
}
"""By name; the two that are compared first, then the peers."""
