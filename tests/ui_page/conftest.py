"""Airflow's API server app with users of its simple auth manager, and rows in its database."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_flokit.triggers._asset_events import Memory, store_key
from airflow_provider_flokit.ui import HAS_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

    from airflow_provider_flokit.simulator import Simulator

collect_ignore_glob = [] if HAS_PAGE else ["test_page.py"]

USERS = {"ada": "admin", "otto": "op", "uma": "user", "vera": "viewer"}
SETTINGS = {
    "_AIRFLOW_PROCESS_CONTEXT": "server",
    "AIRFLOW__API__SECRET_KEY": "not-secret",
    "AIRFLOW__API_AUTH__JWT_SECRET": "not-secret-but-long-enough-for-a-signature-of-any-kind-to-be-made-of-it",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
}
NOW = datetime.now(UTC)

Login = "Callable[[str | None], TestClient]"


@pytest.fixture(scope="session")
def api_server(airflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow's API server app, as the API server makes it: with plugins, auth manager and middlewares."""
    del airflow_db
    passwords = tmp_path_factory.mktemp("users") / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in USERS}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
        app = importlib.import_module("airflow.api_fastapi.app")
        yield app.create_app(apps="core")
        app.purge_cached_app()


@pytest.fixture
def log_in(api_server: Any) -> Iterator[Login]:
    """Log in as a user, by the name, and return a browser without scripts; None: without a login."""
    from fastapi.testclient import TestClient

    opened = []

    def log_in(name: str | None = "ada") -> TestClient:
        client = TestClient(api_server, follow_redirects=False, headers={"Accept": "text/html"})
        opened.append(client)
        if name is not None:
            login = client.post("/auth/token", json={"username": name, "password": name})
            client.cookies.set("_token", login.json()["access_token"])
        return client

    yield log_in
    for client in opened:
        client.close()


class Database:
    """Airflow's database: connections, tasks that wait and assets that are watched; all are gone after the test."""

    def __init__(self) -> None:
        from airflow.jobs.job import Job
        from airflow.models.asset import AssetActive, AssetModel
        from airflow.models.connection import Connection
        from airflow.models.dag import DagModel
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.dagrun import DagRun
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskreschedule import TaskReschedule
        from airflow.models.trigger import Trigger

        self.models = [
            *(TaskReschedule, RenderedTaskInstanceFields, TaskInstance, DagRun, DagModel),
            *(DagBundleModel, AssetActive, AssetModel, Trigger, Job, Connection),
        ]
        (_, self.Rendered, self.TI, self.DagRun, self.Dag, self.Bundle, self.Active, self.Asset) = self.models[:8]
        (self.Trigger, self.Job, self.Connection) = self.models[8:]
        self.clear()  # other tests may have left rows behind
        self.triggerer = self.add(
            self.Job, job_type="TriggererJob", state="running", latest_heartbeat=datetime.now(UTC)
        )

    def add(self, model: Any, **values: Any) -> int:
        """Add a row, by its columns alone, and return its id."""
        from airflow.utils.session import create_session
        from sqlalchemy import insert

        with create_session() as session:
            return session.execute(insert(model.__table__).values(**values)).inserted_primary_key[0]

    def clear(self) -> None:
        """Remove everything."""
        from airflow.utils.session import create_session
        from sqlalchemy import delete, update

        with create_session() as session:
            session.execute(update(self.TI).values(trigger_id=None))
            for model in self.models:
                if model is self.Asset:
                    for asset in session.query(model):
                        session.delete(asset)
                    session.flush()
                else:
                    session.execute(delete(model))

    def connect(self, conn_id: str, simulator: Simulator, conn_type: str = "flokit", **extra: Any) -> None:
        """Store a connection to the simulator."""
        from airflow.utils.session import create_session

        connection = self.Connection(conn_id=conn_id, uri=simulator.connection_uri(**extra))
        connection.conn_type = conn_type
        with create_session() as session:
            session.add(connection)

    def dag(self, dag_id: str) -> str:
        """Add a DAG with a run, unless it is there, and return the run's id."""
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            if session.scalar(select(self.Dag.dag_id).where(self.Dag.dag_id == dag_id)):
                return "manual__1"
            if session.get(self.Bundle, "dags-folder") is None:
                session.add(self.Bundle(name="dags-folder"))
        with create_session() as session:
            session.add(self.Dag(dag_id=dag_id, bundle_name="dags-folder", max_active_tasks=16, is_stale=False))
            session.add(self.DagRun(dag_id=dag_id, run_id="manual__1", run_type="manual", run_after=NOW))
        return "manual__1"

    def task(self, dag_id: str, task_id: str, state: str, map_index: int = -1, **values: Any) -> None:
        """Add a task instance."""
        values = {"pool": "default_pool", "pool_slots": 1, "max_tries": 0, "try_number": 1, **values}
        key = {"dag_id": dag_id, "run_id": self.dag(dag_id), "task_id": task_id, "map_index": map_index}
        # A text on Airflow 3.1, a UUID from 3.2 on.
        new_id = self.TI.__table__.c.id.type.python_type(str(uuid4()))
        self.add(self.TI, id=new_id, state=state, **key, **values)

    def trigger(self, name: str, triggerer_id: int | None, **kwargs: Any) -> int:
        """Add a trigger row and return its id."""
        path = f"airflow_provider_flokit.triggers.flokit.{name}"
        row = self.Trigger(classpath=path, kwargs=kwargs)
        kwargs_of = {"kwargs": row.encrypted_kwargs}
        return self.add(self.Trigger, classpath=path, created_date=NOW, triggerer_id=triggerer_id, **kwargs_of)

    def deferred(self, dag_id: str, task_id: str, map_index: int = -1, *, attended: bool = True, **kwargs: Any) -> None:
        """Let a task wait in the triggerer."""
        from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

        _, arguments = FlokitIntegrationTrigger(**kwargs).serialize()
        trigger_id = self.trigger("FlokitIntegrationTrigger", self.triggerer if attended else None, **arguments)
        self.task(dag_id, task_id, "deferred", map_index, trigger_id=trigger_id, start_date=NOW)

    def in_worker(self, dag_id: str, task_id: str, operator: str, state: str = "running", **fields: Any) -> None:
        """Let a task wait in a worker."""
        self.task(dag_id, task_id, state, operator=operator, start_date=datetime.now(UTC) - timedelta(minutes=8))
        fields = {"flokit_conn_id": "flokit_default", **fields}
        key = {"dag_id": dag_id, "run_id": "manual__1", "task_id": task_id, "map_index": -1}
        self.add(self.Rendered, **key, rendered_fields=fields)

    def watched(self, name: str, integration_id: str, conn_id: str = "flokit_default", *, attended: bool = True) -> int:
        """Add an asset with a watcher and return its id."""
        from airflow.utils.session import create_session

        kwargs = {"integration_id": integration_id, "flokit_conn_id": conn_id, "poll_interval": 30.0, "on": "synced"}
        trigger_id = self.trigger("FlokitSyncedTrigger", self.triggerer if attended else None, **kwargs)
        asset_id = self.asset(name, f"flokit://{conn_id}/{integration_id}")
        with create_session() as session:
            asset, trigger = session.get(self.Asset, asset_id), session.get(self.Trigger, trigger_id)
            if hasattr(asset, "watchers"):
                asset.add_trigger(trigger, "watcher")
            else:
                asset.triggers.append(trigger)
        return asset_id

    def remember(self, asset_id: int, integration_id: str, synced_at: datetime) -> None:
        """Let a watcher remember a success, as it does on Airflow 3.3."""
        from airflow.models.asset_state_store import AssetStateStoreModel

        memory = Memory(synced_at, None).to_json()
        key = store_key(integration_id, "flokit_default", "synced")
        self.add(AssetStateStoreModel, asset_id=asset_id, key=key, value=json.dumps(memory), updated_at=NOW)

    def asset(self, name: str, uri: str) -> int:
        """Add an active asset and return its id."""
        asset_id = self.add(self.Asset, name=name, uri=uri, group="asset", extra={}, created_at=NOW, updated_at=NOW)
        self.add(self.Active, name=name, uri=uri)
        return asset_id


@pytest.fixture
def database(airflow_db: Path) -> Iterator[Database]:
    """Airflow's database, emptied afterwards; what was told of FloKit before is forgotten, too."""
    from airflow_provider_flokit.ui import workspaces

    del airflow_db
    workspaces._workspaces.clear()
    database = Database()
    yield database
    database.clear()
