"""Rows in Airflow's database, as Airflow writes them: connections, tasks that wait, and assets that are watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.models.asset import AssetActive, AssetEvent, AssetModel
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import delete, insert

from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

BUNDLE, RUN = "dags-folder", "manual__1"


class Database:
    """Airflow's database."""

    def clear(self) -> None:
        """Remove everything."""
        with create_session() as session:
            for model in (RenderedTaskInstanceFields, TaskReschedule, TaskInstance, DagRun):
                session.execute(delete(model))
            for model in (DagModel, AssetModel):  # with all that refers to them
                for row in session.query(model):
                    session.delete(row)
                session.flush()
            for model in (DagBundleModel, AssetActive, AssetEvent, Trigger, Connection):
                session.execute(delete(model))

    def add(self, model: Any, **values: Any) -> int:
        """Add a row, by its columns alone, and return its id."""
        with create_session() as session:
            return session.execute(insert(model.__table__).values(**values)).inserted_primary_key[0]

    def connect(self, conn_id: str, simulator: Simulator, conn_type: str = "flokit", **extra: Any) -> None:
        """Store a connection to the simulator."""
        connection = Connection(conn_id=conn_id, uri=simulator.connection_uri(**extra))
        connection.conn_type = conn_type
        with create_session() as session:
            session.add(connection)

    def task(self, dag_id: str, state: str, map_index: int = -1, **values: Any) -> Any:
        """Add an instance of a DAG's task ``wait``, with the DAG and its run unless they are there; return its id."""
        now = datetime.now(UTC)
        with create_session() as session:
            if session.get(DagBundleModel, BUNDLE) is None:
                session.add(DagBundleModel(name=BUNDLE))
                session.flush()
            if session.get(DagModel, dag_id) is None:
                session.add(DagModel(dag_id=dag_id, bundle_name=BUNDLE, max_active_tasks=16, is_stale=False))
                session.add(DagRun(dag_id=dag_id, run_id=RUN, run_type="manual", run_after=now))
        values = {"pool": "default_pool", "pool_slots": 1, "max_tries": 0, "try_number": 1, "start_date": now, **values}
        key = {"dag_id": dag_id, "run_id": RUN, "task_id": "wait", "map_index": map_index}
        # A text on Airflow 3.1, a UUID from 3.2 on.
        new_id = TaskInstance.__table__.c.id.type.python_type(str(uuid4()))
        self.add(TaskInstance, id=new_id, state=state, **key, **values)
        return new_id

    def trigger(self, trigger: Any) -> int:
        """Add a trigger and return its id."""
        path, kwargs = trigger.serialize()
        encrypted = Trigger(classpath=path, kwargs=kwargs).encrypted_kwargs
        return self.add(Trigger, classpath=path, created_date=datetime.now(UTC), kwargs=encrypted)

    def deferred(self, dag_id: str, map_index: int = -1, **kwargs: Any) -> None:
        """Let a task wait in the triggerer."""
        self.task(dag_id, "deferred", map_index, trigger_id=self.trigger(FlokitIntegrationTrigger(**kwargs)))

    def in_worker(self, dag_id: str, operator: str, state: str = "running", **fields: Any) -> None:
        """Let a task wait in a worker, for eight minutes by now; a rescheduled one is at its third look."""
        now, looks = datetime.now(UTC), [8, 4, 1] if state == "up_for_reschedule" else [8]
        *earlier, start = [now - timedelta(minutes=minutes) for minutes in looks]
        ti_id = self.task(dag_id, state, operator=operator, start_date=start)
        for begun in earlier:
            times = {"start_date": begun, "end_date": begun, "reschedule_date": now, "duration": 0}
            self.add(TaskReschedule, ti_id=ti_id, **times)
        fields = {"flokit_conn_id": "flokit_default", **fields}
        key = {"dag_id": dag_id, "run_id": RUN, "task_id": "wait", "map_index": -1}
        self.add(RenderedTaskInstanceFields, **key, rendered_fields=fields)

    def asset(self, name: str, uri: str) -> int:
        """Add an active asset and return its id."""
        now = datetime.now(UTC)
        asset_id = self.add(AssetModel, name=name, uri=uri, group="asset", extra={}, created_at=now, updated_at=now)
        self.add(AssetActive, name=name, uri=uri)
        return asset_id

    def watched(self, name: str, integration_id: str, *events_at: datetime) -> int:
        """Add an asset with a watcher, and with events, and return its id."""
        trigger_id = self.trigger(FlokitSyncedTrigger(integration_id))
        asset_id = self.asset(name, f"flokit://flokit_default/{integration_id}")
        with create_session() as session:
            asset, trigger = session.get(AssetModel, asset_id), session.get(Trigger, trigger_id)
            if hasattr(asset, "watchers"):
                asset.add_trigger(trigger, "watcher")
            else:
                asset.triggers.append(trigger)
        for at in events_at:
            self.add(AssetEvent, asset_id=asset_id, timestamp=at, extra={})
        return asset_id
