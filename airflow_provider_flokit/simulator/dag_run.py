"""One run of a whole DAG in the test's own process, with ``dag.test()``, on every supported Airflow."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

POLL_INTERVAL: Final = 0.05
"""Seconds between two looks at the simulator, however long a task asks for: a test does not want to wait."""

_BUNDLE: Final = "dags-folder"


@dataclass(frozen=True)
class DagOutcome:
    """
    How a run of a DAG ended.

    :param state: ``success`` or ``failed``.
    :param states: The state of every task by its id, such as ``{"sync": "failed", "load": "upstream_failed"}``; the
        instances of a mapped task are ``sync[0]``, ``sync[1]`` ...
    :param reasons: By task, what the operator or sensor of this package said when it failed or was skipped.
    """

    state: str
    states: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)


def run_dag(dag: Any, conf: Mapping[str, Any] | None = None) -> DagOutcome:
    """
    Run a DAG to its end with ``dag.test()``.

    It needs Airflow's metadata database, which is made if it is missing. Tasks of this package look at FloKit every
    0.05 s, whatever their poll interval is, and retries of any task come without delay; everything else is as the DAG
    says.

    :param dag: The DAG.
    :param conf: The run's configuration, which also sets its params.
    """
    _make_database()
    _register(dag)
    reasons: dict[str, str] = {}
    with ExitStack() as changes:
        for task in dag.tasks:
            changes.enter_context(_without_retry_delay(task))
        changes.enter_context(_hurried(reasons))
        # All runs in this process: Airflow 2 need not fear for SQLite, whatever executor is configured.
        changes.enter_context(patch.dict(os.environ, {"_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1"}))
        run = dag.test(run_conf=dict(conf or {}))
    return DagOutcome(str(run.state), {_name(ti): str(ti.state) for ti in run.get_task_instances()}, reasons)


def _name(ti: Any) -> str:
    return f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else str(ti.task_id)


def _make_database() -> None:
    """Make the metadata database where there is none, as ``airflow db migrate`` does."""
    from airflow import settings
    from sqlalchemy import inspect

    if not inspect(settings.engine).has_table("dag_run"):
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - Airflow's own
        if done.returncode:
            msg = f"Airflow's database could not be made:\n{done.stdout}\n{done.stderr}"
            raise RuntimeError(msg)


def _register(dag: Any) -> None:
    """Write the DAG to the database, without which Airflow 3.1 and later do not run it."""
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_2_PLUS

    if not AIRFLOW_V_3_1_PLUS:
        return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    bags = importlib.import_module("airflow.dag_processing.dagbag" if AIRFLOW_V_3_2_PLUS else "airflow.models.dagbag")
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    bag = bags.DagBag(collect_dags=False)
    bag.bag_dag(dag)
    bags.sync_bag_to_db(bag, _BUNDLE, None)


@contextmanager
def _without_retry_delay(task: Any) -> Iterator[None]:
    mapped = getattr(task, "partial_kwargs", None)
    if mapped is not None:
        with patch.dict(mapped, {"retry_delay": timedelta(0)}):
            yield
        return
    before, task.retry_delay = task.retry_delay, timedelta(0)
    try:
        yield
    finally:
        task.retry_delay = before


@contextmanager
def _hurried(reasons: dict[str, str]) -> Iterator[None]:
    """Shorten the poll intervals of this package's tasks, and note why they end."""
    from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
    from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

    kinds = ((FlokitTriggerSyncOperator, "poll_interval"), (FlokitIntegrationSensor, "poke_interval"))
    with ExitStack() as changes:
        for kind, interval in kinds:
            for method in ("execute", "resume_execution"):
                changes.enter_context(patch.object(kind, method, _told(getattr(kind, method), interval, reasons)))
        yield


def _told(method: Any, interval: str, reasons: dict[str, str]) -> Any:
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

    from airflow_provider_flokit.errors import FlokitError

    @functools.wraps(method)  # Airflow 2 knows by its name that a task's execute is called by itself
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        setattr(self, interval, min(getattr(self, interval), POLL_INTERVAL))
        name = _name((kwargs.get("context") or args[-1])["ti"])
        try:
            value = method(self, *args, **kwargs)
        except (FlokitError, AirflowSensorTimeout, AirflowSkipException) as error:
            reasons[name] = str(error)
            raise
        reasons.pop(name, None)
        return value

    return told
