"""Who waits for FloKit, as far as Airflow's database tells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.jobs.job import Job
from airflow.models.asset import AssetModel
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS, AIRFLOW_V_3_3_PLUS
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, func, select
from sqlalchemy.orm import lazyload

from airflow_provider_flokit.gate.conditions import TEMPLATED, Conditions
from airflow_provider_flokit.triggers._asset_events import Memory, store_key
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger
from airflow_provider_flokit.ui.link import read_conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

_OPERATOR, _SENSOR = "FlokitTriggerSyncOperator", "FlokitIntegrationSensor"


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """
    A task that waits. None: the database does not tell.

    :param complete: Whether the conditions are all that it waits for, so that they can be judged.
    :param unattended: Whether it is deferred and no triggerer is alive to look for it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    conn_id: str
    conditions: Conditions | None
    since: datetime | None
    until: datetime | None = None
    complete: bool = True
    unattended: bool = False


@dataclass(frozen=True, slots=True)
class WatchedAsset:
    """
    An asset with a watcher of ours.

    :param seen: The latest success that the watcher has told of, None if the database does not tell (before 3.3).
    :param unattended: Whether no triggerer is alive to look for it.
    """

    id: int
    name: str
    conn_id: str
    integration_id: str
    seen: datetime | None = None
    unattended: bool = False


def read_waiting_tasks(session: Session) -> list[WaitingTask]:
    """Return the tasks that wait: deferred, rescheduled, or running in a worker."""
    key = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
    in_triggerer = (
        select(*key, Trigger)
        .join(Trigger, TaskInstance.trigger_id == Trigger.id)
        .where(TaskInstance.state == TaskInstanceState.DEFERRED, Trigger.classpath == _path(FlokitIntegrationTrigger))
        .options(lazyload(Trigger.task_instance))
    )
    deferred = session.execute(in_triggerer).all()
    alive = _alive_triggerers(session, (row.Trigger for row in deferred))
    tasks = []
    for row in deferred:
        fields = row.Trigger.kwargs
        conditions, complete = _conditions(fields)
        length, deadline = timedelta(seconds=fields["timeout"]), fields.get("deadline")
        # One that was started without a worker has its deadline from when it begins.
        until = row.Trigger.created_date + length if deadline is None else datetime.fromtimestamp(deadline, UTC)
        conn_id, unattended = str(fields["flokit_conn_id"]), row.Trigger.triggerer_id not in alive
        tasks.append(WaitingTask(*row[:4], conn_id, conditions, until - length, until, complete, unattended))

    rendered = RenderedTaskInstanceFields
    first_poke = select(func.min(TaskReschedule.start_date)).where(TaskReschedule.ti_id == TaskInstance.id)
    in_worker = (
        select(
            *key,
            TaskInstance.operator,
            func.coalesce(first_poke.scalar_subquery(), TaskInstance.start_date).label("since"),
            rendered.rendered_fields,
        )
        .join(rendered, and_(*(column == getattr(rendered, column.key) for column in key)))
        .where(
            TaskInstance.operator.in_((_OPERATOR, _SENSOR)),
            TaskInstance.state.in_((TaskInstanceState.RUNNING, TaskInstanceState.UP_FOR_RESCHEDULE)),
        )
    )
    for row in session.execute(in_worker):
        conditions, complete = _conditions(row.rendered_fields)
        # The sync that an operator has started is known to its worker alone.
        complete = complete and row.operator == _SENSOR
        conn_id = str(row.rendered_fields.get("flokit_conn_id"))
        tasks.append(WaitingTask(*row[:4], conn_id, conditions, row.since, complete=complete))
    return sorted(tasks, key=lambda task: (task.dag_id, task.run_id, task.task_id, task.map_index))


def read_watched_assets(session: Session) -> list[WatchedAsset]:
    """Return the assets that are watched."""
    query = select(AssetModel.id, AssetModel.name, Trigger)
    # Airflow 3.1 has no rows for watchers, only for assets and triggers.
    query = query.join(AssetModel.watchers).join(Trigger) if AIRFLOW_V_3_2_PLUS else query.join(AssetModel.triggers)
    query = query.where(Trigger.classpath == _path(FlokitSyncedTrigger)).options(lazyload(Trigger.task_instance))
    rows = session.execute(query.order_by(AssetModel.name)).all()
    alive = _alive_triggerers(session, (row.Trigger for row in rows))
    seen = _seen_syncs(session, [row.id for row in rows])
    assets = []
    for row in rows:
        fields = row.Trigger.kwargs
        of = (fields["integration_id"], fields["flokit_conn_id"], fields["on"])
        unattended = row.Trigger.triggerer_id not in alive
        assets.append(WatchedAsset(row.id, row.name, of[1], of[0], seen.get((row.id, store_key(*of))), unattended))
    return assets


def _path(trigger: type) -> str:
    return f"{trigger.__module__}.{trigger.__qualname__}"


def _conditions(fields: Mapping[str, Any]) -> tuple[Conditions | None, bool]:
    """Return what is waited for and whether that is all: a template that only the triggerer renders says less."""
    fields = {name: fields.get(name) for name in (*TEMPLATED, "flokit_conn_id")}
    if (conditions := read_conditions(fields)) is not None:
        return conditions, True
    return read_conditions({**fields, "receipt": None, "synced_after": None}), False


def _alive_triggerers(session: Session, triggers: Iterable[Trigger]) -> set[int]:
    ids = {trigger.triggerer_id for trigger in triggers} - {None}
    return {job.id for job in session.scalars(select(Job).where(Job.id.in_(ids))) if job.is_alive()} if ids else set()


def _seen_syncs(session: Session, asset_ids: list[int]) -> dict[tuple[int, str], datetime | None]:
    """Return the latest success that each watcher remembers, by asset and key; Airflow 3.3 keeps that."""
    if not AIRFLOW_V_3_3_PLUS or not asset_ids:
        return {}
    from airflow.models.asset_state_store import AssetStateStoreModel

    found = {}
    for row in session.scalars(select(AssetStateStoreModel).where(AssetStateStoreModel.asset_id.in_(asset_ids))):
        if memory := Memory.from_json(json.loads(row.value)):
            found[row.asset_id, row.key] = memory.last_synced_at
    return found
