"""Judges waits: whether each has ended as the simulator knows that it had to."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.system.local_airflow import plain_xcom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_flokit.simulator import SyncRun
    from tests.system.chaos_stage import Row, Run, Stage
    from tests.system.local_airflow import LocalAirflow

ENDINGS = frozenset({"success", "failed", "skipped"})
_STATES = {"succeeded": "success", "failed": "failed"}


def judge(
    stage: Stage,
    row: Row,
    run: Run,
    tasks: Iterable[str | tuple[str, int]],
    *,
    conn_id: str,
    state: str | None = None,
    syncs: int = 1,
    tries: int | range = 1,
    runs: int | None = None,
    said: tuple[str, ...] = (),
    names: int | None = -1,
) -> None:
    """
    Judge waits by what the simulator knows.

    A wait of a task waits for the integration ``int_TASK``, of a mapped one for ``int_TASK_INDEX``. It has to end
    as the last sync did, with that very sync's time and id in the XComs, or its error in the log.

    :param stage: Everything that runs.
    :param row: Where to count.
    :param run: The run.
    :param tasks: Task ids, or pairs of task id and map index.
    :param conn_id: Whose simulator knows.
    :param state: The state they must be in, if not the one that the sync's outcome says: for timeouts.
    :param syncs: How many syncs were to be started by POST; with 0, FloKit's own decide.
    :param tries: How many tries were to be made.
    :param runs: How often a worker was to run the last try, 2 for one that was deferred; None: whatever.
    :param said: Texts that the log of the last try must hold.
    :param names: Which of the syncs that were started the operator's receipt names; None: it went on with one whose
        id it does not know.
    """
    simulator = stage.simulators[conn_id]
    every_sync: dict[str, list[SyncRun]] = {}
    for sync in simulator.syncs:
        every_sync.setdefault(sync.integration_id, []).append(sync)
    facts = _facts(stage.airflow, run)
    for task in tasks:
        task_id, index = task if isinstance(task, tuple) else (task, -1)
        where = f"{run.dag_id}.{task_id}" + (f"[{index}]" if index >= 0 else "")
        integration_id = f"int_{'start' if task_id == 'follow' else task_id}" + (f"_{index}" if index >= 0 else "")
        all_syncs = every_sync.get(integration_id, [])
        manual = [sync for sync in all_syncs if sync.trigger == "manual"]
        row.started[id(simulator), integration_id] = len(manual)
        fact = facts[task_id, index]
        wrong = [] if len(manual) == syncs else [f"{len(manual)} syncs were started, not {syncs}"]
        if fact["try_number"] not in (tries if isinstance(tries, range) else (tries,)):
            wrong.append(f"{fact['try_number']} tries were made, not {tries}")
        wrong += _wrong_events(fact["events"], runs)
        texts = said
        right = state
        if state is None:
            decider = all_syncs[-1] if all_syncs else None
            right = _STATES.get(decider.outcome if decider else "", f"(the simulator has no outcome: {decider})")
            if right == "success":
                named = manual[names].sync_id if manual and names is not None else None
                wrong += _wrong_xcoms(fact["xcoms"], decider, named)
            elif decider:
                texts = (*said, str(decider.error))
        if fact["state"] != right:
            wrong.append(f"it is {fact['state']}, not {right}")
        wrong += _unsaid(stage.airflow, run, task_id, index, texts)
        row.waits += 1
        row.right += not wrong
        row.problems += [f"{where}: {what}" for what in wrong]


def _facts(airflow: LocalAirflow, run: Run) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what Airflow's database knows of each task instance: the state, its last try's events, XComs."""
    facts: dict[tuple[str, int], dict[str, Any]] = {}
    for row in airflow.query(
        "SELECT task_id, map_index, state, try_number FROM task_instance WHERE dag_id = ? AND run_id = ?", run
    ):
        facts[row["task_id"], row["map_index"]] = {**row, "events": Counter(), "xcoms": {}}
    for row in airflow.query(
        "SELECT task_id, map_index, try_number, event FROM log WHERE dag_id = ? AND run_id = ? AND task_id IS NOT NULL",
        run,
    ):
        fact = facts.get((row["task_id"], -1 if row["map_index"] is None else row["map_index"]))
        if fact is not None and row["try_number"] == fact["try_number"]:
            fact["events"][row["event"]] += 1
    for row in airflow.query("SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ? AND run_id = ?", run):
        facts[row["task_id"], row["map_index"]]["xcoms"][row["key"]] = plain_xcom(row["value"])
    return facts


def _wrong_events(events: Counter[str], runs: int | None) -> list[str]:
    """Say how the last try did not end exactly once, or did not run as often as it had to."""
    wrong = []
    if sum(count for event, count in events.items() if event in ENDINGS) != 1:
        wrong.append(f"it did not end exactly once: {dict(events)}")
    if runs is not None and events["running"] != runs:
        wrong.append(f"a worker did not run it {runs} times: {dict(events)}")
    return wrong


def _wrong_xcoms(xcoms: Mapping[str, Any], sync: SyncRun, sync_id: str | None) -> list[str]:
    """Say which XComs are not those of a sync, and of an operator that knows it by this id."""
    wrong = []
    returned = xcoms.get("return_value") or {}
    is_operator = "baseline" in returned
    state = (xcoms.get("integration") or {}) if is_operator else returned
    synced_at = state.get("last_synced_at")
    if synced_at is None or datetime.fromisoformat(synced_at) != sync.finished_at:
        wrong.append(f"the sync ended at {sync.finished_at}, the XCom says {synced_at}")
    if is_operator and returned.get("sync_id") != sync_id:
        wrong.append(f"the receipt names the sync {returned.get('sync_id')}, not {sync_id}")
    return wrong


def _unsaid(airflow: LocalAirflow, run: Run, task_id: str, index: int, texts: tuple[str, ...]) -> list[str]:
    """Say what a task's log does not hold."""
    log = airflow.task_log(*run, task_id, index)
    # The reason of a skip is in a field of its own.
    files = airflow.task_log_folder(*run, task_id, index).rglob("attempt=*") if texts else ()
    log += "".join(file.read_text(errors="replace") for file in files if "Skipping task." in log)
    return [f"its log does not say {text!r}" for text in texts if text not in log]
