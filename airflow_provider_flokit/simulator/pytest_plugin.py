"""
The pytest fixture ``flokit``, for tests of DAGs that talk to FloKit.

Enable it in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["airflow_provider_flokit.simulator.pytest_plugin"]

DAG runs write to Airflow's metadata database in ``AIRFLOW_HOME``. Use a separate one for your tests.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from airflow_provider_flokit.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

POLL_INTERVAL = 0.05
"""Seconds between two looks at the simulator, whatever interval a task has, so that tests are fast."""


@dataclass(frozen=True)
class DagOutcome:
    """
    How a run of a DAG ended.

    :param state: ``success`` or ``failed``.
    :param states: the state of every task by its id, such as ``{"sync": "failed", "load": "upstream_failed"}``; the
        instances of a mapped task are ``sync[0]``, ``sync[1]`` ...
    :param reasons: by task, the message of an operator or sensor of this package that failed or was skipped.
    """

    state: str
    states: dict[str, str]
    reasons: dict[str, str]


class SimulatedFlokit(Simulator):
    """A FloKit simulator that makes Airflow connections to itself, and can run a DAG."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch

    def connect(self, conn_id: str = "flokit_default", api_key: str | None = None, **extra: Any) -> None:
        """
        Make an Airflow connection to this simulator until the end of the test.

        :param conn_id: the connection's id; the fixture has made ``flokit_default`` already.
        :param api_key: default the read-write key. :attr:`read_only_key` is valid too.
        :param extra: the connection's extra, such as ``retry_limit=0``.
        """
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", self.connection_uri(api_key, **extra))

    def run(self, dag: Any, conf: Mapping[str, Any] | None = None) -> DagOutcome:
        """
        Run a DAG to its end, in this process, with ``dag.test()``, and return how each task ended.

        Tasks of this package poll every 0.05 s, whatever their poll interval is, and retries come without delay.
        If Airflow's metadata database is missing, it is made.

        :param dag: the DAG.
        :param conf: the run's configuration, which also sets its params; default none.
        """
        _make_database()
        _register(dag)
        reasons: dict[str, str] = {}
        with _hurry(dag, reasons):
            run = dag.test(run_conf=dict(conf or {}))
        return DagOutcome(str(run.state), {_name(ti): str(ti.state) for ti in run.get_task_instances()}, reasons)


@pytest.fixture
def flokit(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedFlokit]:
    """Run a FloKit simulator without integrations, with the connection ``flokit_default`` to it."""
    with SimulatedFlokit(monkeypatch) as simulator:
        simulator.connect()
        yield simulator


def _make_database() -> None:
    from airflow import settings
    from sqlalchemy import inspect

    if not inspect(settings.engine).has_table("dag_run"):
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - Airflow's own
        if done.returncode:
            raise RuntimeError(f"Airflow's database could not be made:\n{done.stdout}\n{done.stderr}")


def _register(dag: Any) -> None:
    """Write the DAG to the database; else Airflow 3.1 and later do not run it."""
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_2_PLUS

    if not AIRFLOW_V_3_1_PLUS:
        return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    bags = importlib.import_module("airflow.dag_processing.dagbag" if AIRFLOW_V_3_2_PLUS else "airflow.models.dagbag")
    DagBundlesManager().sync_bundles_to_db()
    bag = bags.DagBag(collect_dags=False)
    bag.bag_dag(dag)
    bags.sync_bag_to_db(bag, "dags-folder", None)


@contextmanager
def _hurry(dag: Any, reasons: dict[str, str]) -> Iterator[None]:
    """Make the tasks poll fast and retry at once, and collect the reasons of their failures."""
    from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
    from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

    at_once = timedelta(0)
    with ExitStack() as changes:
        for task in dag.tasks:
            if hasattr(task, "partial_kwargs"):  # it is mapped
                changes.enter_context(patch.dict(task.partial_kwargs, retry_delay=at_once))
            else:
                changes.enter_context(patch.object(task, "retry_delay", at_once))
        for kind, interval in (
            (FlokitTriggerSyncOperator, "poll_interval"),
            (FlokitIntegrationSensor, "poke_interval"),
        ):
            for method in ("execute", "resume_execution"):
                changes.enter_context(patch.object(kind, method, _hurried(getattr(kind, method), interval, reasons)))
        # All tasks run in this process, so Airflow 2 need not check that the configured executor works with SQLite.
        changes.enter_context(patch.dict(os.environ, {"_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1"}))
        yield


def _hurried(method: Any, interval: str, reasons: dict[str, str]) -> Any:
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

    from airflow_provider_flokit.errors import FlokitError

    @functools.wraps(method)  # Airflow 2 checks the name of a task's execute method
    def hurried(self: Any, *args: Any, **kwargs: Any) -> Any:
        setattr(self, interval, min(getattr(self, interval), POLL_INTERVAL))
        name = _name((kwargs.get("context") or args[-1])["ti"])
        try:
            value = method(self, *args, **kwargs)
        except (FlokitError, AirflowSensorTimeout, AirflowSkipException) as error:
            reasons[name] = str(error)
            raise
        reasons.pop(name, None)
        return value

    return hurried


def _name(ti: Any) -> str:
    return f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else str(ti.task_id)
