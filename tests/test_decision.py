"""The verdict table of the design, cell by cell. The expected outcomes are written by hand, not computed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.decision import Readiness, Verdict, has_synced_since, is_fresh, is_same_error, judge
from airflow_provider_flokit.models import Integration, IntegrationStatus

READY, WAIT, FAILED = Readiness.READY, Readiness.WAIT, Readiness.FAILED

EARLIER = datetime(2024, 3, 15, 12, tzinfo=UTC)
BEFORE = datetime(2024, 3, 15, 13, tzinfo=UTC)
AFTER = datetime(2024, 3, 15, 14, tzinfo=UTC)
JUST_AFTER = BEFORE + timedelta(microseconds=1)

STATUSES = ["connected", "error", "syncing", "disconnected", "paused"]
MESSAGE, OTHER_MESSAGE = "Token expired", "Quota exceeded"

# last_synced_at of the baseline and now, and whether that is a success since the baseline.
MOVES = {
    "moved": (BEFORE, AFTER, True),
    "moved by a microsecond": (BEFORE, JUST_AFTER, True),
    "set where none was": (None, AFTER, True),
    "not moved": (BEFORE, BEFORE, False),
    "never synced": (None, None, False),
    "moved backwards": (BEFORE, EARLIER, False),
    "vanished": (BEFORE, None, False),
}

# The one row of the table that forgives: an error that is the very error of the baseline.
FORGIVEN = {
    ("error", "not moved", "same message", "syncing not seen", "in time"),
    ("error", "never synced", "same message", "syncing not seen", "in time"),
}


def integration(status: str, last: datetime | None = BEFORE, message: str | None = None) -> Integration:
    """Return an integration in a state."""
    known = status in frozenset(map(str, IntegrationStatus))
    return Integration("int_1", "stripe", IntegrationStatus(status) if known else status, last, message)


# Without a receipt


@pytest.mark.parametrize(
    ("status", "fail_on_disconnected", "expected"),
    [
        ("connected", True, READY),
        ("connected", False, READY),
        ("syncing", True, WAIT),
        ("syncing", False, WAIT),
        ("error", True, FAILED),
        ("error", False, FAILED),
        ("disconnected", True, FAILED),
        ("disconnected", False, WAIT),
        ("paused", True, WAIT),
        ("paused", False, WAIT),
        ("Connected", True, WAIT),
    ],
)
@pytest.mark.parametrize("last", [None, BEFORE], ids=["never synced", "synced"])
def test_without_a_receipt(
    status: str, last: datetime | None, expected: Readiness, *, fail_on_disconnected: bool
) -> None:
    """Without a receipt the status alone decides."""
    verdict = judge(integration(status, last, MESSAGE), fail_on_disconnected=fail_on_disconnected)
    assert verdict.readiness is expected
    assert verdict.recheck_after is None


@pytest.mark.parametrize(
    ("status", "last", "expected"),
    [
        ("connected", AFTER, READY),
        ("connected", JUST_AFTER, READY),
        ("connected", BEFORE, READY),
        ("connected", BEFORE - timedelta(microseconds=1), WAIT),
        ("connected", EARLIER, WAIT),
        ("connected", None, WAIT),
        ("syncing", AFTER, WAIT),
        ("syncing", EARLIER, WAIT),
        ("error", AFTER, FAILED),
        ("error", EARLIER, FAILED),
        ("disconnected", AFTER, FAILED),
        ("disconnected", EARLIER, FAILED),
        ("paused", AFTER, WAIT),
        ("paused", EARLIER, WAIT),
    ],
)
def test_synced_after(status: str, last: datetime | None, expected: Readiness) -> None:
    """With synced_after, connected is ready only if it synced at that time or later; else it changes nothing."""
    assert judge(integration(status, last), synced_after=BEFORE).readiness is expected


def test_same_moment_in_another_zone() -> None:
    """Times are compared as moments, whatever zone they are written in."""
    synced_after = datetime.fromisoformat("2024-03-15T15:00:00+02:00")
    assert judge(integration("connected", BEFORE), synced_after=synced_after).readiness is READY


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("elapsed", [0.0, 1e9])
def test_without_a_receipt_nothing_is_forgiven(elapsed: float, *, seen: bool) -> None:
    """Without a receipt there is no older error: it fails at once, whatever time passed."""
    verdict = judge(integration("error", BEFORE, MESSAGE), syncing_seen=seen, since_trigger=elapsed)
    assert verdict == Verdict(FAILED, "is in error")


# With a receipt


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("seen", [False, True], ids=["syncing not seen", "syncing seen"])
@pytest.mark.parametrize("elapsed", [0.0, 300.0], ids=["in time", "too late"])
@pytest.mark.parametrize("fail_on_disconnected", [True, False])
def test_connected_with_a_receipt(
    before: str, move: str, elapsed: float, *, seen: bool, fail_on_disconnected: bool
) -> None:
    """Connected is ready only if last_synced_at moved past the baseline's or is set where it had none, else wait."""
    last_before, last_now, succeeded = MOVES[move]
    verdict = judge(
        integration("connected", last_now),
        integration(before, last_before, MESSAGE if before == "error" else None),
        syncing_seen=seen,
        since_trigger=elapsed,
        fail_on_disconnected=fail_on_disconnected,
    )
    assert verdict.readiness is (READY if succeeded else WAIT)


@pytest.mark.parametrize(
    ("now", "expected"), [("syncing", WAIT), ("disconnected", FAILED), ("paused", WAIT), ("Connected", WAIT)]
)
@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("move", MOVES)
def test_other_statuses_with_a_receipt(now: str, before: str, move: str, expected: Readiness) -> None:
    """Syncing and unknown statuses wait and disconnected fails, whatever else is known."""
    last_before, last_now, _ = MOVES[move]
    for seen, elapsed, fail_on_disconnected in product([False, True], [0.0, 300.0], [True, False]):
        verdict = judge(
            integration(now, last_now),
            integration(before, last_before),
            syncing_seen=seen,
            since_trigger=elapsed,
            fail_on_disconnected=fail_on_disconnected,
        )
        assert verdict.readiness is expected


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("message", ["same message", "other message"])
@pytest.mark.parametrize("seen", ["syncing not seen", "syncing seen"])
@pytest.mark.parametrize("elapsed", ["in time", "too late"])
def test_error_with_a_receipt(before: str, move: str, message: str, seen: str, elapsed: str) -> None:
    """An error fails, unless it is the very error of the baseline, no syncing was seen and start_timeout runs."""
    last_before, last_now, _ = MOVES[move]
    verdict = judge(
        integration("error", last_now, MESSAGE if message == "same message" else OTHER_MESSAGE),
        integration(before, last_before, MESSAGE),
        syncing_seen=seen == "syncing seen",
        since_trigger=299.9 if elapsed == "in time" else 300.0,
        start_timeout=300.0,
    )
    forgiven = (before, move, message, seen, elapsed) in FORGIVEN
    assert verdict.readiness is (WAIT if forgiven else FAILED)


def test_error_without_a_message() -> None:
    """An error without a message is the baseline's own if that had none either, and a new one if it had."""
    silent = integration("error")
    assert judge(silent, silent).readiness is WAIT
    assert judge(silent, integration("error", message=MESSAGE)).readiness is FAILED
    assert judge(integration("error", message=MESSAGE), silent).readiness is FAILED


def test_new_error_of_an_integration_that_was_connected() -> None:
    """An error without a message after a connected baseline is new, although the messages are equal."""
    assert judge(integration("error"), integration("connected")).readiness is FAILED


@pytest.mark.parametrize(
    ("elapsed", "start_timeout", "expected", "recheck_after"),
    [
        (0.0, 300.0, WAIT, 300.0),
        (299.0, 300.0, WAIT, 1.0),
        (300.0, 300.0, FAILED, None),
        (301.0, 300.0, FAILED, None),
        (0.0, 0.0, FAILED, None),
        (59.0, 60.0, WAIT, 1.0),
        # The server's clock was set back.
        (-10.0, 300.0, WAIT, 310.0),
    ],
)
def test_start_timeout(elapsed: float, start_timeout: float, expected: Readiness, recheck_after: float | None) -> None:
    """An old error is forgiven for less than start_timeout, and the verdict says when it is to be looked at again."""
    old = integration("error", BEFORE, MESSAGE)
    verdict = judge(old, old, since_trigger=elapsed, start_timeout=start_timeout)
    assert (verdict.readiness, verdict.recheck_after) == (expected, recheck_after)


@pytest.mark.parametrize(
    ("last", "synced_after", "expected"),
    [(AFTER, AFTER, READY), (AFTER, EARLIER, READY), (JUST_AFTER, AFTER, WAIT), (BEFORE, EARLIER, WAIT)],
)
def test_receipt_and_synced_after(last: datetime, synced_after: datetime, expected: Readiness) -> None:
    """With a receipt and synced_after, both have to be fulfilled."""
    verdict = judge(integration("connected", last), integration("connected", BEFORE), synced_after=synced_after)
    assert verdict.readiness is expected


def test_stale_connected_is_not_done() -> None:
    """The first mistake that the design forbids: done, because it still reads connected from last time."""
    same = integration("connected", BEFORE)
    assert judge(same, same, since_trigger=1e9, syncing_seen=True).readiness is WAIT


def test_stale_error_is_not_a_failure() -> None:
    """The second mistake that the design forbids: failed, because it still reads error from last time."""
    same = integration("error", BEFORE, MESSAGE)
    assert judge(same, same).readiness is WAIT


# What the verdict says


@pytest.mark.parametrize(
    ("now", "baseline", "options", "reason"),
    [
        (integration("connected"), None, {}, "is connected"),
        (integration("connected"), integration("connected"), {}, "has not finished this sync yet"),
        (
            integration("connected"),
            None,
            {"synced_after": AFTER},
            "has not synced since 2024-03-15T14:00:00+00:00",
        ),
        (integration("syncing"), None, {}, "is syncing"),
        (integration("error"), None, {}, "is in error"),
        (integration("error"), integration("error"), {}, "still shows the error from before this sync"),
        (
            integration("error"),
            integration("error"),
            {"since_trigger": 90.0, "start_timeout": 60.0},
            "is in error, as before this sync, 60 s after it was requested",
        ),
        (integration("disconnected"), None, {}, "is disconnected"),
        (integration("disconnected"), None, {"fail_on_disconnected": False}, "is disconnected"),
        (integration("paused"), None, {}, "has the unknown status 'paused'"),
        (integration("x" * 1000), None, {}, f"has the unknown status '{'x' * 64}'"),
    ],
)
def test_reasons(now: Integration, baseline: Integration | None, options: dict[str, float], reason: str) -> None:
    """Each verdict gives its reason as a clause about the integration."""
    assert judge(now, baseline, **options).reason == reason  # type: ignore[arg-type]


# The parts


@pytest.mark.parametrize("move", MOVES)
def test_has_synced_since(move: str) -> None:
    """A sync succeeded since the baseline if last_synced_at moved forward or was set."""
    last_before, last_now, succeeded = MOVES[move]
    assert has_synced_since(integration("connected", last_now), integration("error", last_before)) is succeeded


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (integration("error", BEFORE, MESSAGE), True),
        (integration("error", BEFORE, OTHER_MESSAGE), False),
        (integration("error", BEFORE, None), False),
        (integration("error", EARLIER, MESSAGE), False),
        (integration("error", None, MESSAGE), False),
        (integration("connected", BEFORE, MESSAGE), False),
        (integration("syncing", BEFORE, MESSAGE), False),
    ],
)
def test_is_same_error(baseline: Integration, *, expected: bool) -> None:
    """An error is the baseline's own if status, message and last success are the same."""
    assert is_same_error(integration("error", BEFORE, MESSAGE), baseline) is expected


@pytest.mark.parametrize(
    ("status", "last", "within", "expected"),
    [
        ("connected", BEFORE, 3600.0, True),
        ("connected", BEFORE, 3599.999, False),
        ("connected", AFTER, 0.0, True),
        ("connected", AFTER + timedelta(seconds=5), 0.0, True),
        ("connected", None, 1e9, False),
        ("syncing", AFTER, 3600.0, False),
        ("error", AFTER, 3600.0, False),
        ("disconnected", AFTER, 3600.0, False),
        ("paused", AFTER, 3600.0, False),
    ],
)
def test_is_fresh(status: str, last: datetime | None, within: float, *, expected: bool) -> None:
    """Fresh is only what is connected and has synced within so many seconds, by the server's time."""
    assert is_fresh(integration(status, last), AFTER, within) is expected


# Properties

STATES = st.builds(
    integration,
    st.sampled_from(STATUSES) | st.text(min_size=1, max_size=20),
    st.none() | st.sampled_from([EARLIER, BEFORE, JUST_AFTER, AFTER]),
    st.none() | st.sampled_from([MESSAGE, OTHER_MESSAGE]),
)


@given(
    STATES,
    st.none() | STATES,
    st.none() | st.sampled_from([EARLIER, BEFORE, AFTER]),
    st.booleans(),
    st.floats(min_value=-1e6, max_value=1e6),
    st.floats(min_value=0, max_value=1e6),
    st.booleans(),
)
def test_never_a_false_success(
    now: Integration,
    baseline: Integration | None,
    synced_after: datetime | None,
    seen: bool,
    elapsed: float,
    start_timeout: float,
    fail_on_disconnected: bool,
) -> None:
    """Whatever comes, ready means connected, synced since the baseline and since synced_after; a recheck means wait."""
    verdict = judge(
        now,
        baseline,
        synced_after=synced_after,
        syncing_seen=seen,
        since_trigger=elapsed,
        start_timeout=start_timeout,
        fail_on_disconnected=fail_on_disconnected,
    )
    last = now.last_synced_at
    if verdict.readiness is READY:
        assert now.status == "connected"
        assert baseline is None or (
            last is not None and last > (baseline.last_synced_at or datetime.min.replace(tzinfo=UTC))
        )
        assert synced_after is None or (last is not None and last >= synced_after)
    if verdict.recheck_after is not None:
        assert verdict.readiness is WAIT
        assert verdict.recheck_after > 0
