"""The workspace at one moment: finding what is waited for in it, or saying what there is instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitError,
    FlokitNotFoundError,
    FlokitResponseError,
    FlokitServerError,
)
from tests.gate.states import snapshot, state

if TYPE_CHECKING:
    from airflow_provider_flokit.gate.snapshot import Snapshot

STRIPE, SECOND, ADJUST = state("connected", "int_stripe"), state("error", "int_2"), state("syncing", "int_a", "adjust")
THERE = "The workspace has: int_a (adjust), int_stripe (stripe)."
GONE, UNREAD = FlokitNotFoundError("HTTP 404."), FlokitServerError("HTTP 500.")
SINGLES: dict[str, Any] = {"int_a": ADJUST, "int_gone": GONE, "int_unread": UNREAD}
COMPLETED = snapshot(STRIPE).with_singles(SINGLES)


def test_integrations_are_found_by_id_and_by_type() -> None:
    """A type stands for the one integration that has it; single reads complete the list."""
    assert [COMPLETED.of_id(name, "c") for name in ("int_stripe", "int_a")] == [STRIPE, ADJUST]
    assert snapshot(STRIPE, ADJUST).of_type("adjust", "c") is ADJUST


@pytest.mark.parametrize(
    ("there", "kind", "name", "error", "says"),
    [
        (snapshot(STRIPE, ADJUST), "id", "int_strip", FlokitNotFoundError, ["did you mean int_stripe?", THERE, "'c'"]),
        (snapshot(STRIPE, ADJUST), "type", "strpe", FlokitNotFoundError, ["did you mean stripe?", THERE]),
        (snapshot(), "id", "int_1", FlokitNotFoundError, ["The workspace has: no integrations."]),
        (snapshot(STRIPE, SECOND), "type", "stripe", FlokitAmbiguousTypeError, ["integration_id: int_2, int_stripe"]),
        (snapshot(STRIPE, malformed=1), "type", "adjust", FlokitResponseError, ["1 in it cannot be read"]),
        (COMPLETED, "id", "int_gone", FlokitNotFoundError, ["'int_gone'"]),
        (COMPLETED, "id", "int_unread", FlokitServerError, ["HTTP 500."]),
    ],
    ids=["unknown id", "unknown type", "empty", "ambiguous type", "maybe malformed", "missing", "unread"],
)
def test_what_cannot_be_found_is_told_with_what_there_is(
    there: Snapshot, kind: str, name: str, error: type[FlokitError], says: list[str]
) -> None:
    """The message names the connection, what comes closest, and the workspace's integrations."""
    with pytest.raises(error) as failure:
        (there.of_id if kind == "id" else there.of_type)(name, "c")
    assert [text for text in says if text not in str(failure.value)] == []
