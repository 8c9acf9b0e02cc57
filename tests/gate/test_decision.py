"""The verdict: one row per cell of the table, and what no sequence of looks may ever bring about."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_flokit.gate.decision import judge
from airflow_provider_flokit.gate.wait import Ending
from airflow_provider_flokit.models import IntegrationStatus
from tests.gate.states import REQUESTED, at, begin, receipt, snapshot, state

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_flokit.gate.wait import Outcome
    from airflow_provider_flokit.models import Integration

START_TIMEOUT = 60.0

WAITED_FOR: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nothing, patiently": {"fail_on_disconnected": False},
    "synced_after": {"synced_after": REQUESTED},
    "synced_after, patiently": {"synced_after": REQUESTED, "fail_on_disconnected": False},
    "sync": {"receipt": receipt()},
    "sync, patiently": {"receipt": receipt(), "fail_on_disconnected": False},
    "409": {"receipt": receipt(sync_id=None)},
    "first sync ever": {"receipt": receipt("connected never")},
    "sync after error": {"receipt": receipt("error")},
    "409 after error": {"receipt": receipt("error", sync_id=None)},
    "sync behind another": {"receipt": receipt("syncing")},
    "409 while syncing": {"receipt": receipt("syncing", sync_id=None)},
    "skipped": {"receipt": receipt(sync_id=None, skipped=True)},
    "skipped, synced_after": {"receipt": receipt(sync_id=None, skipped=True), "synced_after": REQUESTED},
    "sync, synced_after": {"receipt": receipt(), "synced_after": at(2)},
    "sync after error, synced_after": {"receipt": receipt("error"), "synced_after": at(2)},
    "sync behind another, synced_after": {"receipt": receipt("syncing"), "synced_after": at(2)},
}

# The looks, as status@second; +1 and +2 are the first and the second success since the request, at seconds 1 and 2.
# "warn" is ready, with a warning.
TABLE = """
waited for              | looks                                                  | before | at the deadline

nothing                 | connected@20                                           | ready  | ready
nothing                 | syncing@20                                             | wait   | wait
nothing                 | error@20                                               | failed | failed
nothing                 | disconnected@20                                        | failed | failed
nothing, patiently      | disconnected@20                                        | wait   | wait
nothing, patiently      | error@20                                               | failed | failed
nothing                 | paused@20                                              | wait   | wait

synced_after            | connected@20                                           | wait   | wait
synced_after            | connected never@20                                     | wait   | wait
synced_after            | connected+0@20                                         | ready  | ready
synced_after            | syncing@20                                             | wait   | wait
synced_after            | syncing+1@20                                           | wait   | ready
synced_after            | error@20                                               | failed | failed
synced_after            | error+1@20                                             | warn   | warn
synced_after            | disconnected@20                                        | failed | failed
synced_after            | disconnected+1@20                                      | warn   | warn
synced_after, patiently | disconnected@20                                        | wait   | wait
synced_after            | paused@20                                              | wait   | wait
synced_after            | paused+1@20                                            | wait   | wait

sync                    | connected@20                                           | wait   | wait
sync                    | connected+1@20                                         | ready  | ready
sync                    | syncing@20                                             | wait   | wait
sync                    | syncing+1@20                                           | wait   | ready
sync                    | error@20                                               | failed | failed
sync                    | error+1@20                                             | warn   | warn
sync                    | disconnected@20                                        | failed | failed
sync, patiently         | disconnected@20                                        | failed | failed
sync                    | disconnected+1@20                                      | warn   | warn
sync                    | paused@20                                              | wait   | wait
sync                    | paused+1@20                                            | wait   | wait
first sync ever         | connected never@20                                     | wait   | wait
first sync ever         | connected+1@20                                         | ready  | ready

sync after error        | error@59                                               | wait   | wait
sync after error        | error@60                                               | failed | failed
sync after error        | syncing@10 error@20                                    | failed | failed
sync after error        | new error@20                                           | failed | failed
sync after error        | error+1@20                                             | warn   | warn
sync after error        | disconnected@20                                        | failed | failed

sync behind another     | connected@20                                           | wait   | wait
sync behind another     | connected+1@30                                         | wait   | ready
sync behind another     | connected+1@31                                         | ready  | ready
sync behind another     | connected+1@2 connected+2@3                            | ready  | ready
sync behind another     | syncing@20                                             | wait   | wait
sync behind another     | syncing+1@40                                           | wait   | wait
sync behind another     | connected+1@2 syncing+2@3                              | wait   | ready
sync behind another     | error@20                                               | wait   | wait
sync behind another     | error@60                                               | failed | failed
sync behind another     | syncing@100 error@130 error@189                        | wait   | wait
sync behind another     | syncing@100 error@130 error@190                        | failed | failed
sync behind another     | error@20 syncing@30 error@40                           | failed | failed
sync behind another     | error@20 syncing@30 connected+1@40                     | ready  | ready
sync behind another     | error+1@20                                             | failed | failed
sync behind another     | connected+1@2 error+1@3                                | failed | failed
sync behind another     | connected+1@2 error+2@3                                | warn   | warn
sync behind another     | disconnected@20                                        | failed | failed
sync behind another     | disconnected+1@20                                      | failed | failed
sync behind another     | connected+1@2 disconnected+2@3                         | warn   | warn
sync behind another     | paused+1@40                                            | wait   | wait

skipped                 | syncing@20                                             | ready  | ready
skipped                 | error@20                                               | ready  | ready
skipped, synced_after   | connected+1@20                                         | ready  | ready
skipped, synced_after   | syncing+1@20                                           | wait   | ready
skipped, synced_after   | error+1@20                                             | warn   | warn

sync, synced_after      | connected+1@20                                         | wait   | wait
sync, synced_after      | connected+2@20                                         | ready  | ready
sync, synced_after      | syncing+2@20                                           | wait   | ready
sync, synced_after      | error+1@20                                             | failed | failed
sync, synced_after      | error+2@20                                             | warn   | warn
sync after error, synced_after    | error@20                                     | wait   | wait
sync after error, synced_after    | error+1@20                                   | failed | failed
sync behind another, synced_after | connected+2@20                               | wait   | ready
sync behind another, synced_after | connected+1@2 connected+2@3                  | ready  | ready
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()[1:] if line]
# A running sync that was attached to is ours, whether the baseline saw it or not.
SAME = {"sync": ["409", "409 while syncing"], "sync after error": ["409 after error"]}
ROWS += [[name, *cells] for waited_for, *cells in ROWS for name in SAME.get(waited_for, [])]


def look(text: str, *, last: bool, **waited_for: Any) -> Outcome | None:
    """Look again and again, and return what the last look brought."""
    wait = begin(start_timeout=START_TIMEOUT, **waited_for)
    looks = [snapshot(name.strip(), second=float(second)) for name, second in re.findall(r"([^@]+)@(\d+)", text)]
    assert not any(wait.look(each) for each in looks[:-1])
    return wait.look(looks[-1], last=last)


@pytest.mark.parametrize("last", [False, True], ids=["before", "at the deadline"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_each_cell_of_the_table(row: list[str], last: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What is waited for and what was seen so far decide, before the deadline and at it."""
    waited_for, looks, *expected = row
    outcome = look(looks, last=last, **WAITED_FOR[waited_for])
    warned = any(record.levelno == logging.WARNING for record in caplog.records)
    words = {Ending.READY: "warn" if warned else "ready", Ending.FAILED: "failed"}
    assert (words.get(outcome.ending, "wait") if outcome else "wait") == expected[last]


@pytest.mark.parametrize(
    ("waited_for", "now", "reason"),
    [
        ("sync", "connected", "has not finished sync sync_1, last synced 11:00:00 UTC (1 h ago)"),
        ("409", "connected", "has not finished the sync that was running already"),
        ("synced_after", "connected", "has to sync at or after 12:00:00 UTC, last synced 11:00:00 UTC (1 h ago)"),
        ("sync after error", "error", "is in error: bad token, but that is from before this sync"),
        ("sync behind another", "connected+1", "has synced 12:00:01 UTC (19 s ago), but the requested sync may only"),
    ],
)
def test_a_verdict_gives_its_reason(waited_for: str, now: str, reason: str) -> None:
    """Whoever reads the log at night learns from the reason what is missing, and FloKit's own words."""
    assert reason in judge(state(now), at(20), **WAITED_FOR[waited_for]).reason


def test_a_warning_says_what_is_known() -> None:
    """A success that was followed by a failure is a success, and the failure is told."""
    assert judge(state("new error+1"), at(20), receipt()).warning == (
        "a sync that began after the request succeeded at 12:00:01 UTC (19 s ago); "
        "the latest one failed: quota exceeded"
    )


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "never synced"),
        (REQUESTED, "last synced 12:00:00 UTC (just now)"),
        (REQUESTED - timedelta(minutes=8), "last synced 11:52:00 UTC (8 min ago)"),
        (REQUESTED - timedelta(days=1), "last synced 14 Mar 12:00:00 UTC (1 day ago)"),
        (REQUESTED.replace(year=2022), "last synced 2022-03-15 12:00:00 UTC (731 days ago)"),
    ],
)
def test_a_past_time_has_its_age(time: datetime | None, text: str) -> None:
    """Times are in UTC to the second, with as much of the date as is needed, and say how long ago they were."""
    now = replace(state("connected"), last_synced_at=time)
    assert judge(now, REQUESTED, synced_after=at(1)).reason.endswith(f", {text}")


# None is the very state of the baseline.
STATES = st.none() | st.sampled_from(
    [
        state(f"{status}{success}")
        for status in ("connected", "syncing", "error", "new error", "disconnected", "paused")
        for success in ("", "+1", "+2", "+3", " never")
    ]
)
BASELINES = st.sampled_from(["connected", "connected never", "syncing", "error", "disconnected", "paused"])


@settings(max_examples=200)
@given(
    baseline=BASELINES,
    sync_id=st.sampled_from(["sync_1", None]),
    looks=st.lists(st.tuples(STATES, st.integers(1, 30)), min_size=1, max_size=12),
    synced_after=st.sampled_from([None, at(2)]),
)
def test_no_looks_make_the_gate_lie(
    baseline: str, sync_id: str | None, looks: list[tuple[Integration | None, int]], synced_after: datetime | None
) -> None:
    """
    Nothing is done whose ``last_synced_at`` has not moved, nor failed for the baseline's own error.

    That error counts within ``start_timeout`` only once ``syncing`` was seen.
    """
    awaited = receipt(baseline, sync_id=sync_id)
    wait = begin(receipt=awaited, synced_after=synced_after, start_timeout=START_TIMEOUT)
    before, second, syncing_seen = awaited.baseline, 0, False
    for number, (shown, gap) in enumerate(looks, 1):
        now, second = shown or before, second + gap
        syncing_seen |= now.status == IntegrationStatus.SYNCING
        if outcome := wait.look(snapshot(now, second=second), last=number == len(looks)):
            break
    assert outcome
    if outcome.ending is Ending.READY:
        assert now.last_synced_at not in (None, before.last_synced_at)
        assert synced_after is None or now.last_synced_at >= synced_after
    if now.status == IntegrationStatus.ERROR and now == before and not syncing_seen and second < START_TIMEOUT:
        assert outcome.ending is not Ending.FAILED
