"""What a retry of the operator makes of the try before it, with a task state store (Airflow 3.3) and without."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitPermissionError,
    FlokitSyncFailedError,
    FlokitWaitTimeoutError,
)
from airflow_provider_flokit.gate import decision
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import TaskInstance, TaskStateStore, event_of

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
BEFORE = "2024-03-15T12:00:00Z"


class Killed(BaseException):
    """The worker is gone."""


class Tries:
    """The tries of one task: each is a fresh operator and task instance, only the store lives on."""

    def __init__(self, store: TaskStateStore | None, retries: int = 2, **arguments: Any) -> None:
        self.store = store
        self.retries = retries
        self.max_tries = retries
        self.number = 0
        self.arguments = {"wait_for_completion": True, "poll_interval": 0.03, "timeout": 60, **arguments}

    def next(self) -> SyncReceipt:
        """Run the next try and return its receipt."""
        self.number += 1
        settings = {"task_id": "sync", "integration_id": STRIPE, "retries": self.retries, **self.arguments}
        task = FlokitTriggerSyncOperator(**settings)
        ti = TaskInstance(task, try_number=self.number, max_tries=self.max_tries)
        context: Any = {"ti": ti}
        if self.store is not None:
            context["task_state_store"] = self.store
        return SyncReceipt.from_json(task.execute(context))

    def killed(self, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
        """Run the next try, and lose its worker at some point."""
        kill_at(monkeypatch, when)
        with pytest.raises(Killed):
            self.next()

    def clear(self) -> None:
        """Do what Airflow does when a user clears the task."""
        self.max_tries = self.number + self.retries


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)


@pytest.fixture
def store() -> TaskStateStore:
    """Make an empty task state store."""
    return TaskStateStore()


def kill_at(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Have the next try die before or right after the POST, or at the first look while waiting."""
    start, observe = FlokitHook.start_sync, FlokitHook.observe

    def dying_start(self: FlokitHook, *given: Any) -> Any:
        monkeypatch.setattr(FlokitHook, "start_sync", start)
        if when == "after the POST":
            start(self, *given)
        raise Killed

    def dying_observe(self: FlokitHook, *_: Any, **__: Any) -> Any:
        monkeypatch.setattr(FlokitHook, "observe", observe)
        raise Killed

    if when == "while it waits":
        monkeypatch.setattr(FlokitHook, "observe", dying_observe)
    else:
        monkeypatch.setattr(FlokitHook, "start_sync", dying_start)


@pytest.mark.parametrize("when", ["before the POST", "after the POST", "while it waits"])
def test_a_lost_worker_costs_no_second_sync(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The retry ends right with exactly one sync in all, and leaves nothing in the store."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.05, duration=0.1))
    tries = Tries(store)
    tries.killed(monkeypatch, when)
    receipt = tries.next()
    (sync,) = flokit.syncs
    assert receipt.idempotency_key == sync.idempotency_key
    assert sync.outcome == "succeeded"
    assert store.values == {}


def test_a_sync_that_finished_between_the_tries_is_recognised(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline is that of the first try, never recomputed."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(duration=0))
    tries = Tries(store)
    tries.killed(monkeypatch, "while it waits")
    receipt = tries.next()
    assert receipt.to_json()["baseline"]["last_synced_at"] == BEFORE
    assert [sync.sync_id for sync in flokit.syncs] == [receipt.sync_id]


@pytest.mark.parametrize("duration", [0, 3], ids=["it has moved on", "it is syncing"])
def test_a_sync_that_began_after_the_baseline_is_gone_on_with(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch, duration: float
) -> None:
    """FloKit queued the POST without honouring its key, and would queue another: the retry looks before it posts."""
    flokit.honour_idempotency_key = False
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=Sync(duration=duration))
    tries = Tries(store)
    tries.killed(monkeypatch, "after the POST")
    assert tries.next().sync_id is None
    assert [sync.outcome for sync in flokit.syncs] == ["succeeded"]
    assert len([r for r in flokit.requests if r.method == "POST"]) == 1


@pytest.mark.parametrize("when", ["before the POST", "after the POST"])
def test_a_baseline_that_was_syncing_is_read_anew_and_posted_with_its_own_key(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """What runs then may be the other's sync: the same key asks for ours once more, from a new baseline."""
    monkeypatch.setattr(decision, "QUIET", 0.0)
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(duration=2))
    flokit.run_scheduled_sync(STRIPE, Sync(duration=2))
    tries = Tries(store)
    tries.killed(monkeypatch, when)
    key = store.get("flokit_receipt")["receipt"]["idempotency_key"]
    while flokit.syncs[0].outcome != "succeeded":
        time.sleep(0.01)
    receipt = tries.next()
    assert receipt.idempotency_key == key
    assert receipt.to_json()["baseline"]["last_synced_at"] > BEFORE
    assert {r.idempotency_key for r in flokit.requests if r.method == "POST"} == {key}
    assert [sync.trigger for sync in flokit.syncs] == ["scheduled", "manual"]
    assert flokit.syncs[1].outcome == "succeeded"


def test_a_failed_sync_is_started_anew(flokit: Simulator, store: TaskStateStore) -> None:
    """A retry after a failure starts a new sync, and is not confused by the error it starts from."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(duration=0.1, error="boom"), Sync(start_delay=0.1, duration=0.1))
    tries = Tries(store)
    with pytest.raises(FlokitSyncFailedError):
        tries.next()
    assert store.values == {}
    tries.next()
    assert [sync.outcome for sync in flokit.syncs] == ["failed", "succeeded"]


def test_a_sync_that_failed_while_no_worker_lived_is_started_anew(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry judges the receipt first, sees the failure, and begins again."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(duration=0, error="boom"), Sync(duration=0))
    tries = Tries(store)
    tries.killed(monkeypatch, "while it waits")
    tries.next()
    assert [sync.outcome for sync in flokit.syncs] == ["failed", "succeeded"]


def test_a_wait_that_timed_out_goes_on_with_the_same_sync(flokit: Simulator, store: TaskStateStore) -> None:
    """The retry waits for the sync of the first try."""
    flokit.add_integration(STRIPE, sync=Sync(duration=3))
    tries = Tries(store, timeout=0.2)
    with pytest.raises(FlokitWaitTimeoutError):
        tries.next()
    tries.arguments["timeout"] = 60
    assert [tries.next().sync_id] == [sync.sync_id for sync in flokit.syncs]


def test_no_try_left_leaves_nothing_behind(flokit: Simulator, store: TaskStateStore) -> None:
    """After the last try the store is empty, so that clearing the task starts anew."""
    flokit.add_integration(STRIPE, sync=Sync(duration=60))
    tries = Tries(store, retries=0, timeout=0.1)
    with pytest.raises(FlokitWaitTimeoutError):
        tries.next()
    assert store.values == {}


def test_a_cleared_task_starts_anew_also_if_it_was_lost(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lost worker of an earlier series of tries left in the store is not gone on with."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    tries = Tries(store, retries=0)
    tries.killed(monkeypatch, "while it waits")
    assert store.values
    tries.clear()
    tries.next()
    assert len(flokit.syncs) == 2
    assert store.values == {}


def test_another_integration_than_before_is_not_taken_for_it(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that renders anew may name another integration."""
    flokit.add_integration("int_other", sync=Sync(duration=0))
    flokit.add_integration(STRIPE, type="adjust", sync=Sync(duration=0))
    tries = Tries(store)
    tries.killed(monkeypatch, "while it waits")
    tries.arguments["integration_id"] = "int_other"
    tries.next()
    assert [sync.integration_id for sync in flokit.syncs] == [STRIPE, "int_other"]


def test_a_request_that_cannot_be_mended_leaves_nothing_behind(flokit: Simulator, store: TaskStateStore) -> None:
    """A read-only key fails for good."""
    flokit.add_integration(STRIPE)
    flokit.fail(403, method="POST")
    with pytest.raises(FlokitPermissionError):
        Tries(store).next()
    assert store.values == {}


def test_an_api_that_is_down_keeps_the_key_for_the_next_try(flokit: Simulator, store: TaskStateStore) -> None:
    """The POST may have taken effect: the next try repeats it with the same Idempotency-Key."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1))
    flokit.fail(Fault.drop_after(), method="POST", times=5)
    tries = Tries(store)
    with pytest.raises(FlokitAPIError):
        tries.next()
    tries.next()
    assert len({r.idempotency_key for r in flokit.requests if r.method == "POST"}) == 1
    assert len(flokit.syncs) == 1


def test_without_waiting_nothing_is_kept(flokit: Simulator, store: TaskStateStore) -> None:
    """The task's work is done with the POST."""
    flokit.add_integration(STRIPE)
    Tries(store, wait_for_completion=False).next()
    assert store.values == {}


def test_a_deferred_outcome_empties_the_store(flokit: Simulator, store: TaskStateStore) -> None:
    """The receipt is kept through the deferral and deleted when the task resumes."""
    flokit.add_integration(STRIPE)
    tries = Tries(store, deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        tries.next()
    assert store.values
    task = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
    context: Any = {"ti": TaskInstance(task), "task_state_store": store}
    task.resume_execution("execute_complete", {"event": event_of(deferred.value)}, context)
    assert store.values == {}


@pytest.mark.parametrize("rubbish", [5, [], {"series": 2}, {"series": 2, "receipt": {"sync_id": "x"}}])
def test_a_store_that_cannot_be_read_starts_anew(flokit: Simulator, store: TaskStateStore, rubbish: Any) -> None:
    """Another version of this package, or somebody else, may have written there."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    store.set("flokit_receipt", rubbish)
    Tries(store).next()
    assert len(flokit.syncs) == 1


def test_before_airflow_3_3_a_retry_attaches_to_a_running_sync(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a store: what is running is waited for, not started again, even if FloKit would queue another."""
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=Sync(duration=3))
    tries = Tries(None)
    tries.killed(monkeypatch, "while it waits")
    assert tries.next().sync_id is None
    assert len(flokit.syncs) == 1


def test_before_airflow_3_3_a_first_try_always_requests_its_own(flokit: Simulator) -> None:
    """Only a retry may take a running sync for its own."""
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=Sync(duration=0.1))
    flokit.run_scheduled_sync(STRIPE)
    Tries(None).next()
    assert [sync.trigger for sync in flokit.syncs] == ["scheduled", "manual"]


def test_what_the_last_try_ended_by_does_not_matter(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's execution_timeout ends it as well as an error of ours: nothing is left for a try that does not come."""
    flokit.add_integration(STRIPE, sync=Sync(duration=60))

    def over(*_: Any, **__: Any) -> None:
        raise AirflowTaskTimeout("Timeout")

    tries = Tries(store, retries=1)
    monkeypatch.setattr(FlokitHook, "observe", over)
    with pytest.raises(AirflowTaskTimeout):
        tries.next()
    assert store.values
    with pytest.raises(AirflowTaskTimeout):
        tries.next()
    assert store.values == {}


@pytest.mark.parametrize(("retries", "kept"), [(1, True), (0, False)])
def test_a_trigger_that_broke_says_nothing_about_the_sync(
    flokit: Simulator, store: TaskStateStore, retries: int, kept: bool
) -> None:
    """The retry goes on with the same sync; without a retry nothing is left."""
    flokit.add_integration(STRIPE, sync=Sync(duration=60))
    tries = Tries(store, retries=retries, deferrable=True)
    with pytest.raises(TaskDeferred):
        tries.next()
    task = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE, retries=retries, wait_for_completion=True)
    ti = TaskInstance(task, try_number=1, max_tries=retries)
    broke: Any = {"error": "Trigger failure", "traceback": ["KeyError"]}
    with pytest.raises(Exception, match="Trigger failure"):
        task.resume_execution("__fail__", broke, {"ti": ti, "task_state_store": store})
    assert bool(store.values) is kept


def test_a_key_that_died_between_the_tries_is_no_failed_sync(
    flokit: Simulator, store: TaskStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that may not look at its sync says so, and does not start a second one."""
    flokit.add_integration(STRIPE, sync=Sync(duration=60))
    tries = Tries(store)
    tries.killed(monkeypatch, "while it waits")
    flokit.rotate_key("fk_rw_new")
    with pytest.raises(FlokitAuthenticationError):
        tries.next()
    assert len([r for r in flokit.requests if r.method == "POST"]) == 1
