"""What the simulator's command prints is readable on a terminal, in a file, and without rich."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from airflow_provider_flokit.simulator import RecordedRequest, Simulator
from airflow_provider_flokit.simulator.terminal import Terminal

STRIPE = "int_01hx4j7stripe"


def request(status: int | None) -> RecordedRequest:
    """Return a request that was answered with this status."""
    return RecordedRequest(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        method="POST",
        path=f"/v1/integrations/{STRIPE}/sync",
        status=status,
        integration_id=STRIPE,
        idempotency_key=None,
        key="read-write",
        headers={},
        note="[bold]not markup[/bold]",
    )


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Print everything that there is to print, and return it."""
    simulator = Simulator(api_key="key-of-this-test")
    simulator.add_integration(STRIPE, status="error", error_message="bad secret")
    terminal = Terminal()
    terminal.introduce(simulator)
    for status in (200, 429, 503, None):
        terminal.request(request(status))
    return capsys.readouterr().out


@pytest.mark.parametrize("rich_is_installed", [True, False])
def test_plain_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, rich_is_installed: bool
) -> None:
    """In a pipe or file, and without rich, there are no escapes; keys, states, connection and requests are lines."""
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    if not rich_is_installed:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    text = printed(capsys)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert "  read-write key  key-of-this-test" in lines
    assert f"  {STRIPE:<24} {'stripe':<18} error: bad secret" in lines
    assert any(line.startswith("export AIRFLOW_CONN_FLOKIT_DEFAULT=flokit://:key-of-this-test@") for line in lines)
    assert [line.split()[3] for line in lines[-4:]] == ["200", "429", "503", "-"]
    assert all(line.endswith("[bold]not markup[/bold]") for line in lines[-4:])


def test_in_colour_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a request's colour tells how it went, and the text is the same."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    served, refused, failed, dropped = printed(capsys).splitlines()[-4:]
    assert "\x1b[32m200" in served
    assert "\x1b[33m429" in refused
    assert "\x1b[31m503" in failed
    assert "\x1b[31m-" in dropped
    assert "[bold]not markup[/bold]" in served
