"""The workspace at one moment: finding what is waited for in it, or saying what there is instead."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitError,
    FlokitNotFoundError,
    FlokitResponseError,
    FlokitServerError,
)
from tests.gate.states import snapshot, state

STRIPE, ADJUST = state("connected", "int_stripe"), state("syncing", "int_adjust", "adjust")


def refused(kind: type[FlokitError], look: Any) -> str:
    """Return the message of the error that a look raises."""
    with pytest.raises(kind) as error:
        look()
    return str(error.value)


def test_integrations_are_found_by_id_and_by_type() -> None:
    """A type stands for the one integration that has it."""
    found = snapshot(STRIPE, ADJUST)
    assert found.of_id("int_stripe", "c") is STRIPE
    assert found.of_type("adjust", "c") is ADJUST


def test_an_unknown_id_is_told_with_what_comes_closest_and_what_there_is() -> None:
    """The message names the id, the connection and the workspace's ids."""
    said = refused(FlokitNotFoundError, lambda: snapshot(STRIPE, ADJUST).of_id("int_strip", "c"))
    assert "'int_strip'" in said
    assert "did you mean int_stripe?" in said
    assert "int_adjust, int_stripe" in said
    assert "connection 'c'" in said


def test_an_unknown_type_is_told_with_types() -> None:
    """Ids are no help to who asked for a type."""
    said = refused(FlokitNotFoundError, lambda: snapshot(STRIPE, ADJUST).of_type("strpe", "c"))
    assert "did you mean stripe?" in said
    assert "The workspace has: adjust, stripe" in said


def test_an_empty_workspace_is_called_so() -> None:
    """With a key of another workspace there may be nothing at all."""
    assert "no integrations" in refused(FlokitNotFoundError, lambda: snapshot().of_id("int_1", "c"))


def test_a_type_of_several_lists_their_ids() -> None:
    """One of them has to be named."""
    several = snapshot(STRIPE, state("error", "int_2"), ADJUST)
    said = refused(FlokitAmbiguousTypeError, lambda: several.of_type("stripe", "c"))
    assert "int_2, int_stripe" in said
    assert "integration_id" in said


def test_a_type_is_not_called_missing_while_an_entry_of_the_list_cannot_be_read() -> None:
    """The malformed entry may be it, so a wait goes on."""
    refused(FlokitResponseError, lambda: snapshot(STRIPE, malformed=1).of_type("adjust", "c"))


def test_single_reads_complete_the_list() -> None:
    """An id that the list does not hold is there, missing, or could not be read."""
    found = snapshot(STRIPE).with_singles(
        {"int_adjust": ADJUST, "int_gone": None, "int_unread": FlokitServerError("HTTP 500.")}
    )
    assert found.of_id("int_stripe", "c") is STRIPE
    assert found.of_id("int_adjust", "c") is ADJUST
    assert found.missing == {"int_gone"}
    refused(FlokitNotFoundError, lambda: found.of_id("int_gone", "c"))
    assert refused(FlokitServerError, lambda: found.of_id("int_unread", "c")) == "HTTP 500."
