"""Airflow's API server app with users of its simple auth manager, and rows in its database."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_flokit.simulator import Simulator
from airflow_provider_flokit.triggers._asset_events import Memory, store_key
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger
from airflow_provider_flokit.ui import HAS_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

collect_ignore_glob = [] if HAS_PAGE else ["test_page.py"]

USERS = {"ada": "admin", "otto": "op", "uma": "user", "vera": "viewer"}
SETTINGS = {
    "_AIRFLOW_PROCESS_CONTEXT": "server",
    "AIRFLOW__API__SECRET_KEY": "not-secret",
    "AIRFLOW__API_AUTH__JWT_SECRET": "not-secret-but-long-enough-for-a-signature-of-any-kind-to-be-made-of-it",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
}
NOW = datetime.now(UTC)

Login = "Callable[..., TestClient]"


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


@pytest.fixture
def flokit() -> Iterator[Simulator]:
    """A simulator that no connection of the environment leads to."""
    with Simulator() as simulator:
        yield simulator


class Database:
    """Airflow's database: connections, tasks that wait and assets that are watched; all are gone after the test."""

    def __init__(self) -> None:
        from airflow.models.asset import AssetActive, AssetModel
        from airflow.models.connection import Connection
        from airflow.models.dag import DagModel
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.dagrun import DagRun
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session

        self.Active, self.Asset, self.Connection, self.Dag = AssetActive, AssetModel, Connection, DagModel
        self.Bundle, self.DagRun, self.Rendered, self.TI = (
            DagBundleModel,
            DagRun,
            RenderedTaskInstanceFields,
            TaskInstance,
        )
        self.Trigger, self.session = Trigger, create_session
        self.clear()  # other tests may have left rows behind

    def clear(self) -> None:
        """Remove everything."""
        from sqlalchemy import delete

        with self.session() as session:
            for model in (self.Rendered, self.TI, self.DagRun):
                session.execute(delete(model))
            for model in (self.Dag, self.Asset):  # with all that refers to them
                for row in session.query(model):
                    session.delete(row)
                session.flush()
            for model in (self.Bundle, self.Active, self.Trigger):
                session.execute(delete(model))
            session.execute(delete(self.Connection))

    def add(self, model: Any, **values: Any) -> int:
        """Add a row, by its columns alone, and return its id."""
        from sqlalchemy import insert

        with self.session() as session:
            return session.execute(insert(model.__table__).values(**values)).inserted_primary_key[0]

    def connect(self, conn_id: str, simulator: Simulator, conn_type: str = "flokit", **extra: Any) -> None:
        """Store a connection to the simulator."""
        connection = self.Connection(conn_id=conn_id, uri=simulator.connection_uri(**extra))
        connection.conn_type = conn_type
        with self.session() as session:
            session.add(connection)

    def task(self, dag_id: str, task_id: str, state: str, map_index: int = -1, **values: Any) -> None:
        """Add a task instance, with a DAG and a run of it unless they are there."""
        with self.session() as session:
            if session.get(self.Bundle, "dags-folder") is None:
                session.add(self.Bundle(name="dags-folder"))
                session.flush()
            if session.get(self.Dag, dag_id) is None:
                session.add(self.Dag(dag_id=dag_id, bundle_name="dags-folder", max_active_tasks=16, is_stale=False))
                session.add(self.DagRun(dag_id=dag_id, run_id="manual__1", run_type="manual", run_after=NOW))
        values = {"pool": "default_pool", "pool_slots": 1, "max_tries": 0, "try_number": 1, **values}
        key = {"dag_id": dag_id, "run_id": "manual__1", "task_id": task_id, "map_index": map_index}
        # A text on Airflow 3.1, a UUID from 3.2 on.
        new_id = self.TI.__table__.c.id.type.python_type(str(uuid4()))
        self.add(self.TI, id=new_id, state=state, **key, **values)

    def trigger(self, trigger: Any) -> int:
        """Add a trigger row and return its id."""
        path, kwargs = trigger.serialize()
        row = self.Trigger(classpath=path, kwargs=kwargs)
        return self.add(self.Trigger, classpath=path, created_date=NOW, kwargs=row.encrypted_kwargs)

    def deferred(self, dag_id: str, task_id: str, map_index: int = -1, **kwargs: Any) -> None:
        """Let a task wait in the triggerer."""
        trigger_id = self.trigger(FlokitIntegrationTrigger(**kwargs))
        self.task(dag_id, task_id, "deferred", map_index, trigger_id=trigger_id, start_date=NOW)

    def in_worker(self, dag_id: str, operator: str, state: str = "running", **fields: Any) -> None:
        """Let a task wait in a worker."""
        since = datetime.now(UTC) - timedelta(minutes=8)
        self.task(dag_id, "wait", state, operator=operator, start_date=since)
        fields = {"flokit_conn_id": "flokit_default", **fields}
        key = {"dag_id": dag_id, "run_id": "manual__1", "task_id": "wait", "map_index": -1}
        self.add(self.Rendered, **key, rendered_fields=fields)

    def asset(self, name: str, uri: str) -> int:
        """Add an active asset and return its id."""
        asset_id = self.add(self.Asset, name=name, uri=uri, group="asset", extra={}, created_at=NOW, updated_at=NOW)
        self.add(self.Active, name=name, uri=uri)
        return asset_id

    def watched(self, name: str, integration_id: str, told: datetime | None = None) -> int:
        """Add an asset with a watcher, which has told of a success (Airflow 3.3), and return its id."""
        trigger_id = self.trigger(FlokitSyncedTrigger(integration_id))
        asset_id = self.asset(name, f"flokit://flokit_default/{integration_id}")
        with self.session() as session:
            asset, trigger = session.get(self.Asset, asset_id), session.get(self.Trigger, trigger_id)
            if hasattr(asset, "watchers"):
                asset.add_trigger(trigger, "watcher")
            else:
                asset.triggers.append(trigger)
        if told:
            from airflow.models.asset_state_store import AssetStateStoreModel

            memory = json.dumps(Memory(told, None).to_json())
            key = store_key(integration_id, "flokit_default", "synced")
            self.add(AssetStateStoreModel, asset_id=asset_id, key=key, value=memory, updated_at=NOW)
        return asset_id


@pytest.fixture
def database(airflow_db: Path) -> Iterator[Database]:
    """Airflow's database, emptied afterwards; what was seen of FloKit before is forgotten, too."""
    from airflow_provider_flokit.ui import workspaces

    del airflow_db
    workspaces._looks.clear()
    database = Database()
    yield database
    database.clear()
