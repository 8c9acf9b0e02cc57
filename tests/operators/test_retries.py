"""What a retry of the operator makes of the try before it, with a task state store (Airflow 3.3) and without."""

from __future__ import annotations

import math
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
from tests.modes import BEFORE, STRIPE, TaskInstance, TaskStateStore, event_of, staged

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

RUNNING = Sync(duration=math.inf)  # until a test ends it


class Killed(BaseException):
    """The worker is gone."""


class Tries:
    """The tries of one task: each is a fresh operator and task instance, only the store lives on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.store: TaskStateStore | None = TaskStateStore()
        self.number, self.retries, self.max_tries = 0, 2, 2
        self.arguments: dict[str, Any] = {"integration_id": STRIPE, "wait_for_completion": True, "timeout": 60}

    def task(self) -> tuple[FlokitTriggerSyncOperator, Any]:
        """Make the operator and its context, of the try that runs."""
        task = FlokitTriggerSyncOperator(task_id="sync", retries=self.retries, poll_interval=0.03, **self.arguments)
        context: Any = {"ti": TaskInstance(task, try_number=self.number, max_tries=self.max_tries)}
        if self.store is not None:
            context["task_state_store"] = self.store
        return task, context

    def next(self) -> SyncReceipt:
        """Run the next try and return its receipt."""
        self.number += 1
        task, context = self.task()
        return SyncReceipt.from_json(task.execute(context))

    def killed(self, when: str) -> None:
        """Run the next try, and lose its worker before or right after the POST, or at the first look."""
        call = FlokitHook.observe if when == "while it waits" else FlokitHook.start_sync

        def dying(*given: Any, **_: Any) -> None:
            if when == "after the POST":
                call(*given)
            raise Killed

        with self.monkeypatch.context() as worker:
            worker.setattr(FlokitHook, call.__name__, dying)
            with pytest.raises(Killed):
                self.next()

    def deferred(self) -> TaskDeferred:
        """Run the next try until it defers, and say how it did."""
        self.arguments["deferrable"] = True
        with pytest.raises(TaskDeferred) as deferral:
            self.next()
        return deferral.value

    @property
    def kept(self) -> Any:
        """What is in the store."""
        return self.store.get("flokit_receipt") if self.store else None

    def leave(self, retries: int) -> None:
        """Give the task so many retries."""
        self.retries = self.max_tries = retries


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Tries:
    """Return a task that no worker has begun yet."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)
    return Tries(monkeypatch)


@pytest.fixture
def before_3_3(tries: Tries) -> Tries:
    """Return a task of an Airflow that keeps nothing across tries."""
    tries.store = None
    return tries


def posts(flokit: Simulator) -> list[str | None]:
    """Return the Idempotency-Key of each POST."""
    return [r.idempotency_key for r in flokit.requests if r.method == "POST"]


# The worker is lost


@pytest.mark.parametrize("when", ["before the POST", "after the POST", "while it waits"])
def test_a_lost_worker_costs_no_second_sync(flokit: Simulator, tries: Tries, when: str) -> None:
    """The retry ends right with exactly one sync in all, and leaves nothing in the store."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.05))
    tries.killed(when)
    receipt = tries.next()
    (sync,) = flokit.syncs
    assert (receipt.idempotency_key, sync.outcome) == (sync.idempotency_key, "succeeded")
    assert tries.kept is None


def test_a_sync_that_finished_between_the_tries_is_recognised(flokit: Simulator, tries: Tries) -> None:
    """The baseline is that of the first try, never recomputed."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(duration=0))
    tries.killed("while it waits")
    receipt = tries.next()
    assert receipt.to_json()["baseline"]["last_synced_at"] == BEFORE
    assert [sync.sync_id for sync in flokit.syncs] == [receipt.sync_id]


@pytest.mark.parametrize("sync", [Sync(duration=0), RUNNING], ids=["it has moved on", "it is syncing"])
def test_a_sync_that_began_after_the_baseline_is_gone_on_with(flokit: Simulator, tries: Tries, sync: Sync) -> None:
    """FloKit queued the POST without honouring its key, and would queue another: the retry looks before it posts."""
    flokit.configure(honour_idempotency_key=False, when_running="queue")
    flokit.add_integration(STRIPE, sync=sync)
    tries.killed("after the POST")
    with staged(flokit, *[lambda: flokit.finish_sync(STRIPE)] * (sync is RUNNING)):
        assert tries.next().sync_id is None
    assert [sync.outcome for sync in flokit.syncs] == ["succeeded"]
    assert len(posts(flokit)) == 1


@pytest.mark.parametrize("when", ["before the POST", "after the POST"])
def test_a_baseline_that_was_syncing_is_read_anew_and_posted_with_its_own_key(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, tries: Tries, when: str
) -> None:
    """What runs then may be the other's sync: the same key asks for ours once more, from a new baseline."""
    monkeypatch.setattr(decision, "QUIET", 0.0)
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=RUNNING)
    flokit.run_scheduled_sync(STRIPE, RUNNING)
    tries.killed(when)
    key = tries.kept["receipt"]["idempotency_key"]
    flokit.finish_sync(STRIPE)
    with staged(flokit, lambda: flokit.finish_sync(STRIPE)):
        receipt = tries.next()
    assert receipt.idempotency_key == key
    assert receipt.to_json()["baseline"]["last_synced_at"] > BEFORE
    assert set(posts(flokit)) == {key}
    assert [(sync.trigger, sync.outcome) for sync in flokit.syncs] == [
        ("scheduled", "succeeded"),
        ("manual", "succeeded"),
    ]


def test_a_sync_that_failed_while_no_worker_lived_is_started_anew(flokit: Simulator, tries: Tries) -> None:
    """The retry judges the receipt first, sees the failure, and begins again."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(duration=0, error="boom"), Sync(duration=0))
    tries.killed("while it waits")
    tries.next()
    assert [sync.outcome for sync in flokit.syncs] == ["failed", "succeeded"]


def test_a_key_that_died_between_the_tries_is_no_failed_sync(flokit: Simulator, tries: Tries) -> None:
    """A retry that may not look at its sync says so, and does not start a second one."""
    flokit.add_integration(STRIPE, sync=RUNNING)
    tries.killed("while it waits")
    flokit.rotate_key("fk_rw_new")
    with pytest.raises(FlokitAuthenticationError):
        tries.next()
    assert len(posts(flokit)) == 1


def test_another_integration_than_before_is_not_taken_for_it(flokit: Simulator, tries: Tries) -> None:
    """A template that renders anew may name another integration."""
    flokit.add_integration("int_other", sync=Sync(duration=0))
    flokit.add_integration(STRIPE, type="adjust", sync=Sync(duration=0))
    tries.killed("while it waits")
    tries.arguments["integration_id"] = "int_other"
    tries.next()
    assert [sync.integration_id for sync in flokit.syncs] == [STRIPE, "int_other"]


def test_a_cleared_task_starts_anew_also_if_it_was_lost(flokit: Simulator, tries: Tries) -> None:
    """What a lost worker of an earlier series of tries left in the store is not gone on with."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    tries.leave(retries=0)
    tries.killed("while it waits")
    assert tries.kept
    tries.max_tries = tries.number + tries.retries  # what Airflow does when a user clears the task
    tries.next()
    assert len(flokit.syncs) == 2
    assert tries.kept is None


# The try has failed


def test_a_failed_sync_is_started_anew(flokit: Simulator, tries: Tries) -> None:
    """A retry after a failure starts a new sync, and is not confused by the error it starts from."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(error="boom"), Sync(start_delay=0.1))
    with pytest.raises(FlokitSyncFailedError):
        tries.next()
    assert tries.kept is None
    tries.next()
    assert [sync.outcome for sync in flokit.syncs] == ["failed", "succeeded"]


def test_a_wait_that_timed_out_goes_on_with_the_same_sync(flokit: Simulator, tries: Tries) -> None:
    """The retry waits for the sync of the first try."""
    flokit.add_integration(STRIPE, sync=RUNNING)
    tries.arguments["timeout"] = 0.2
    with pytest.raises(FlokitWaitTimeoutError):
        tries.next()
    tries.arguments["timeout"] = 60
    with staged(flokit, lambda: flokit.finish_sync(STRIPE)):
        assert [tries.next().sync_id] == [sync.sync_id for sync in flokit.syncs]


def test_an_api_that_is_down_keeps_the_key_for_the_next_try(flokit: Simulator, tries: Tries) -> None:
    """The POST may have taken effect: the next try repeats it with the same Idempotency-Key."""
    flokit.add_integration(STRIPE)
    flokit.fail(Fault.drop_after(), method="POST", times=5)
    with pytest.raises(FlokitAPIError):
        tries.next()
    tries.next()
    assert len(set(posts(flokit))) == 1
    assert len(flokit.syncs) == 1


@pytest.mark.parametrize("retries", [1, 0])
@pytest.mark.parametrize("error", [FlokitWaitTimeoutError("late"), AirflowTaskTimeout("Timeout")], ids=repr)
def test_only_a_try_that_will_come_finds_the_receipt(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, tries: Tries, retries: int, error: BaseException
) -> None:
    """After the last try the store is empty, so that clearing the task starts anew, whatever ended it."""

    def over(*_: Any, **__: Any) -> None:
        raise error

    flokit.add_integration(STRIPE, sync=RUNNING)
    tries.leave(retries)
    monkeypatch.setattr(FlokitHook, "wait_for", over)
    with pytest.raises(type(error)):
        tries.next()
    assert bool(tries.kept) is (retries == 1)


@pytest.mark.parametrize("retries", [1, 0])
def test_a_trigger_that_broke_says_nothing_about_the_sync(flokit: Simulator, tries: Tries, retries: int) -> None:
    """The retry goes on with the same sync; without a retry nothing is left."""
    flokit.add_integration(STRIPE, sync=RUNNING)
    tries.leave(retries)
    tries.deferred()
    task, context = tries.task()
    with pytest.raises(Exception, match="Trigger failure"):
        task.resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["KeyError"]}, context)
    assert bool(tries.kept) is (retries == 1)


def test_a_request_that_cannot_be_mended_leaves_nothing_behind(flokit: Simulator, tries: Tries) -> None:
    """A read-only key fails for good."""
    flokit.add_integration(STRIPE)
    flokit.fail(403, method="POST")
    with pytest.raises(FlokitPermissionError):
        tries.next()
    assert tries.kept is None


# The try has succeeded


def test_without_waiting_nothing_is_kept(flokit: Simulator, tries: Tries) -> None:
    """The task's work is done with the POST."""
    flokit.add_integration(STRIPE)
    tries.arguments["wait_for_completion"] = False
    tries.next()
    assert tries.kept is None


def test_a_deferred_outcome_empties_the_store(flokit: Simulator, tries: Tries) -> None:
    """The receipt is kept through the deferral and deleted when the task resumes."""
    flokit.add_integration(STRIPE)
    deferral = tries.deferred()
    assert tries.kept
    task, context = tries.task()
    task.resume_execution("execute_complete", {"event": event_of(deferral)}, context)
    assert tries.kept is None


# Before Airflow 3.3


def test_before_airflow_3_3_a_retry_attaches_to_a_running_sync(flokit: Simulator, before_3_3: Tries) -> None:
    """Without a store: what is running is waited for, not started again, even if FloKit would queue another."""
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=RUNNING)
    before_3_3.killed("while it waits")
    with staged(flokit, lambda: flokit.finish_sync(STRIPE)):
        assert before_3_3.next().sync_id is None
    assert len(flokit.syncs) == 1


def test_before_airflow_3_3_a_first_try_always_requests_its_own(flokit: Simulator, before_3_3: Tries) -> None:
    """Only a retry may take a running sync for its own."""
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=RUNNING)
    flokit.run_scheduled_sync(STRIPE, RUNNING)
    with staged(flokit, *[lambda: flokit.finish_sync(STRIPE)] * 2):
        before_3_3.next()
    assert [sync.trigger for sync in flokit.syncs] == ["scheduled", "manual"]
