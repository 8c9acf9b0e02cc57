"""What a simulator that runs by hand prints, and what one can type to steer it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.integration import IntegrationState
    from airflow_provider_flokit.simulator.server import RecordedRequest, Simulator

HELP = """\
status               show the integrations
fail [ID] [MESSAGE]  let the next sync that is triggered end in error
finish [ID]          end the sync that waits or runs, now
sync [ID]            start one of FloKit's own syncs
rotate               replace the API key: the old one is refused from now on
down                 answer no request any more
up                   answer again
help                 show this
ID is an integration's id or a part of it; without one, all are meant."""


def run_command(line: str, simulator: Simulator) -> str:
    """
    Do what somebody typed, and return the text to print.

    :param line: a command and its arguments; see ``help``.
    :param simulator: what it is about.
    """
    command, _, rest = line.strip().partition(" ")
    match command:
        case "status":
            return "\n".join(map(_integration_line, simulator.integrations))
        case "fail" | "finish" | "sync":
            return _steer_syncs(command, rest.strip(), simulator)
        case "rotate":
            simulator.rotate_key()
            return f"The old key is refused from now on. The new one:\n{export_line(simulator)}"
        case "down":
            simulator.outage()
            return "Every request is dropped until you type: up"
        case "up":
            simulator.clear_faults()
            return "Requests are answered again"
    return HELP if command in ("help", "") else f"There is no command {command}\n{HELP}"


def _steer_syncs(command: str, arguments: str, simulator: Simulator) -> str:
    every = [state.id for state in simulator.integrations]
    word, _, message = arguments.partition(" ")
    named = [word] if word in every else [each for each in every if word in each]
    if command == "fail":
        if not named:  # the first word belongs to the message then
            named, message = every, arguments
        failing = replace(simulator.sync, error=message or "Failed by hand")
        for each in named:
            simulator.plan(each, failing)
        return f"The next triggered sync of {', '.join(named)} will fail: {failing.error}"
    if not named:
        return f"There is no integration {word}; there are {', '.join(every)}"
    if command == "finish":
        runs = [run for each in named if (run := simulator.finish_sync(each))]
    else:
        runs = [simulator.run_scheduled_sync(each) for each in named]
    return "\n".join(f"{run.integration_id}: {run.sync_id} {run.outcome}" for run in runs) or "No sync runs"


def introduction(simulator: Simulator) -> str:
    """Return where a running simulator is, its keys and integrations, and the connection to export."""
    return "\n".join(
        [
            f"FloKit simulator: {simulator.url}  (Ctrl-C to stop)",
            f"  read-write key  {simulator.api_key}",
            f"  read-only key   {simulator.read_only_key}",
            *map(_integration_line, simulator.integrations),
            "",
            export_line(simulator),
            "",
            "Type help to see how to steer it.",
        ]
    )


def export_line(simulator: Simulator) -> str:
    """Return the shell command that leads Airflow's default connection to a running simulator."""
    return f"export AIRFLOW_CONN_FLOKIT_DEFAULT={shlex.quote(simulator.connection_uri())}"


def request_line(request: RecordedRequest) -> str:
    """Return one line about a request and what became of it."""
    time, status = f"{request.at.astimezone():%H:%M:%S}", request.status or "-"
    return f"{time}  {request.method:<4} {request.path:<46} {status:<3}  {request.note}"


def _integration_line(state: IntegrationState) -> str:
    reason = f": {state.error_message}" if state.error_message else ""
    return f"  {state.id:<24} {state.type:<18} {state.status}{reason}"
