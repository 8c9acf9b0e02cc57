"""What FloKit says goes no further than it may: into XComs, trigger rows and the time of a wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import FlokitUnreachableError
from airflow_provider_flokit.simulator import Fault

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

    from .conftest import Connect, Hook


def error_messages(hook: Hook) -> set[str]:
    """Return what a list, a look and a single read say of the integration in error."""
    return {
        hook("list_integrations")[0].error_message,
        hook("observe", ["int_1"]).integrations["int_1"].error_message,
        hook("get_integration", "int_1").error_message,
    }


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Token expired", "Token expired"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("NUL \0, escape \x1b[2J, override \u202e", "NUL \\x00, escape \\x1b[2J, override \\x202e"),
        ("x" * 2000, "x" * 2000),
        ("x" * 1_000_000, "x" * 1999 + "…"),
    ],
    ids=["short", "lines", "controls", "2,000 characters", "a million characters"],
)
def test_error_message(hook: Hook, sim: Simulator, said: str, kept: str) -> None:
    """An error message goes on to XComs and databases in 2,000 characters at most, with nothing that acts or hides."""
    sim.set_state("int_1", status="error", error_message=said)
    assert error_messages(hook) == {kept}


def test_error_message_is_redacted_before_it_is_cut(hook: Hook, sim: Simulator) -> None:
    """The key of a long message is not left half."""
    sim.set_state("int_1", status="error", error_message=f"{'x' * 1990}{sim.api_key}")
    assert error_messages(hook) == {f"{'x' * 1990}***"}


@pytest.mark.parametrize("field", ["type", "status"])
@pytest.mark.parametrize("value", ["x" * 257, "connected\0", "\x1b[2J", "two\nlines"])
def test_an_odd_name_harms_no_other_wait(hook: Hook, sim: Simulator, field: str, value: Any) -> None:
    """In a look, an integration with a name that cannot be kept is unread; the others are there."""
    entries = [
        {"id": "int_1", "type": "stripe", "status": "connected"},
        {"id": "int_2", "type": "a", "status": "error"},
    ]
    sim.fail(Fault.wrong_shape({"integrations": [{**entries[0], field: value}, entries[1]]}))
    found = hook("observe", ["int_1", "int_2"])
    assert set(found.integrations) == {"int_2"}
    message = str(found.unread["int_1"].error)
    assert f"{field!r} is longer than 256 characters or not printable" in message
    assert message.isprintable()


def test_patience_counts_the_attempts_too(hook: Hook, sim: Simulator, connect: Connect) -> None:
    """A look that may take only so long makes no attempt after that, if each one runs into the timeout."""
    connect(timeout=1)
    sim.fail(Fault.slow(30), times=None)
    with pytest.raises(FlokitUnreachableError):
        hook("observe", [], retries=10, patience=1.9)
    assert len(sim.requests) == 2
