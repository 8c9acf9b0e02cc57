"""What the Test button of Airflow's connection form says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.simulator import Fault, Simulator

from .conftest import LIST

if TYPE_CHECKING:
    from .conftest import Connect, Hook


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([], "Connected: 0 integrations"),
        (["connected"], "Connected: 1 integration (1 connected)"),
        (["error", "connected", "connected"], "Connected: 3 integrations (2 connected, 1 error)"),
        (
            ["zombie", "disconnected", "syncing", "error", "connected", "paused"],
            "Connected: 6 integrations (1 connected, 1 error, 1 syncing, 1 disconnected, 1 paused, 1 zombie)",
        ),
    ],
)
def test_test_connection(hook: Hook, flokit: Simulator, states: list[str], text: str) -> None:
    """The Test button lists the integrations, once, and counts them by status."""
    for number, status in enumerate(states):
        flokit.add_integration(f"int_{number}", status=status)
    assert hook("test_connection") == (True, text)
    assert [(r.method, r.path) for r in flokit.requests] == [("GET", LIST)]


@pytest.mark.parametrize(
    ("api_key", "text"),
    [
        (
            "fk_wrong",
            (
                "FloKit, listing the integrations: HTTP 401: Invalid or missing API key. "
                "Put a valid API key into this connection (a key dies at once when it is rotated)."
            ),
        ),
        (
            "two words",
            (
                "This connection: API Key (password) holds spaces, line breaks or characters that an HTTP header "
                "cannot carry. Copy the key anew."
            ),
        ),
    ],
    ids=["401", "malformed"],
)
def test_test_connection_of_a_form(
    hook: Hook, sim: Simulator, monkeypatch: pytest.MonkeyPatch, api_key: str, text: str
) -> None:
    """A form is tested under an id that Airflow makes up: the message speaks of this connection, not of that id."""
    monkeypatch.setenv("AIRFLOW_CONN_MMAP3EY1", sim.connection_uri(api_key))
    assert hook("test_connection", conn_id="mMAP3Ey1") == (False, text)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (401, "HTTP 401: Invalid or missing API key. Put a valid API key into connection 'flokit_default'"),
        (403, "HTTP 403"),
        (503, "HTTP 503: Service unavailable. Try again later."),
        (Fault.rate_limited(3600), "HTTP 429: Too many requests. Try again in 3600 s, as FloKit asks."),
        (Fault.drop(), "no answer from"),
        (Fault.answer(200, "html"), "but not the documented answer: the body is not JSON."),
    ],
    ids=["401", "403", "503", "429", "dropped", "html"],
)
def test_test_connection_that_fails(hook: Hook, sim: Simulator, fault: Fault | int, text: str) -> None:
    """The Test button says what is wrong and what to do about it, at once, without retries."""
    sim.fail(fault, times=None)
    connected, message = hook("test_connection")
    assert connected is False
    assert text in message
    assert len(sim.requests) == 1


def test_test_connection_without_a_connection(hook: Hook) -> None:
    """The Test button never raises: a missing connection is a message."""
    connected, message = hook("test_connection", conn_id="flokit_nowhere")
    assert connected is False
    assert "is not defined" in message


def test_test_connection_with_a_wrong_value(hook: Hook, connect: Connect) -> None:
    """The Test button names a field with a wrong value."""
    connect(retry_limit="many")
    assert hook("test_connection") == (
        False,
        "Airflow connection 'flokit_default': extra 'retry_limit' is not a whole number from 0 to 100",
    )


@pytest.mark.usefixtures("sim")
def test_test_connection_survives_anything(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Test button shows even what nobody thought of."""

    def broken(_: object) -> None:
        raise RuntimeError("line\nbreak")

    monkeypatch.setattr("airflow_provider_flokit.hooks.flokit.success_message", broken)
    assert hook("test_connection") == (False, "RuntimeError: line break")
