"""Find in Airflow's database the tasks and assets that wait for FloKit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, func, select
from sqlalchemy.orm import lazyload

from airflow_provider_flokit.gate.conditions import Conditions
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger, classpath
from airflow_provider_flokit.ui.link import read_conditions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

_OPERATOR, _SENSOR = "FlokitTriggerSyncOperator", "FlokitIntegrationSensor"
_TASK = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)


@dataclass(frozen=True, slots=True)
class Waiter:
    """
    A task that waits, or an asset that is watched.

    :param href: Its address in Airflow; all mapped instances of a task have the same.
    :param conditions: What it waits for; None if the database does not have that.
    :param complete: Whether the conditions are complete, so that they can be judged.
    :param event_at: When an asset had its latest event.
    """

    name: str
    href: str
    conn_id: str
    conditions: Conditions | None
    dag_id: str = ""
    asset_id: str = ""
    complete: bool = False
    since: datetime | None = None
    until: datetime | None = None
    event_at: datetime | None = None


def read_waiters(session: Session) -> list[Waiter]:
    """Return all tasks that wait and all assets that are watched."""
    return [*_deferred_tasks(session), *_tasks_in_workers(session), *_watched_assets(session)]


def read_connections_of_assets(session: Session) -> set[str]:
    """Return the connections that ``flokit://`` assets name."""
    uris = select(AssetModel.uri).where(AssetModel.uri.startswith("flokit://"), AssetModel.active.has())
    return {unquote(urlsplit(uri).netloc) for uri in session.scalars(uris)}


def _deferred_tasks(session: Session) -> Iterator[Waiter]:
    query = select(*_TASK, Trigger).join(Trigger, TaskInstance.trigger_id == Trigger.id)
    query = query.where(TaskInstance.state == TaskInstanceState.DEFERRED, _is_a(FlokitIntegrationTrigger))
    for row in session.execute(query.options(lazyload(Trigger.task_instance))):
        fields = row.Trigger.kwargs
        length, deadline = timedelta(seconds=fields["timeout"]), fields.get("deadline")
        # A trigger that was started without a worker has no deadline argument: its timeout counts from its start.
        until = row.Trigger.created_date + length if deadline is None else datetime.fromtimestamp(deadline, UTC)
        yield _task(row, fields, since=until - length, until=until)


def _tasks_in_workers(session: Session) -> Iterator[Waiter]:
    rendered = RenderedTaskInstanceFields
    first_poke = select(func.min(TaskReschedule.start_date)).where(TaskReschedule.ti_id == TaskInstance.id)
    since = func.coalesce(first_poke.scalar_subquery(), TaskInstance.start_date).label("since")
    query = select(*_TASK, TaskInstance.operator, since, rendered.rendered_fields)
    query = query.join(rendered, and_(*(column == getattr(rendered, column.key) for column in _TASK)))
    query = query.where(
        TaskInstance.operator.in_((_OPERATOR, _SENSOR)),
        TaskInstance.state.in_((TaskInstanceState.RUNNING, TaskInstanceState.UP_FOR_RESCHEDULE)),
    )
    for row in session.execute(query):
        # Only its worker knows which sync an operator has started.
        yield _task(row, row.rendered_fields, complete=row.operator == _SENSOR, since=row.since)


def _task(row: Any, fields: Mapping[str, Any], *, complete: bool = True, **values: Any) -> Waiter:
    if (conditions := read_conditions(fields)) is None:
        # A template that only the triggerer renders, or a receipt that Airflow has cut: try without them.
        conditions, complete = read_conditions({**fields, "receipt": None, "synced_after": None}), False
    dag_id, run_id, task_id = (quote(part, safe="") for part in row[:3])
    return Waiter(
        name=f"{row.dag_id} · {row.task_id}",
        href=f"../dags/{dag_id}/runs/{run_id}/tasks/{task_id}{'/mapped' if row.map_index >= 0 else ''}",
        conn_id=str(fields["flokit_conn_id"]),
        conditions=conditions,
        dag_id=row.dag_id,
        complete=complete,
        **values,
    )


def _watched_assets(session: Session) -> Iterator[Waiter]:
    event_at = select(func.max(AssetEvent.timestamp)).where(AssetEvent.asset_id == AssetModel.id).scalar_subquery()
    query = select(AssetModel.id, AssetModel.name, Trigger, event_at.label("event_at"))
    # Airflow 3.1 has no rows for watchers, only for assets and triggers.
    query = query.join(AssetModel.watchers).join(Trigger) if AIRFLOW_V_3_2_PLUS else query.join(AssetModel.triggers)
    query = query.where(_is_a(FlokitSyncedTrigger))
    for row in session.execute(query.options(lazyload(Trigger.task_instance))):
        conn_id = row.Trigger.kwargs["flokit_conn_id"]
        yield Waiter(
            name=f"asset {row.name}",
            href=f"../assets/{row.id}",
            conn_id=conn_id,
            conditions=Conditions(conn_id, ids=(row.Trigger.kwargs["integration_id"],)),
            asset_id=str(row.id),
            event_at=row.event_at,
        )


def _is_a(kind: type) -> ColumnElement[bool]:
    return Trigger.classpath == classpath(kind)
