"""``python -m airflow_provider_flokit.simulator``: a local FloKit API, controlled by typed commands."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator.integration import Sync
from airflow_provider_flokit.simulator.server import READ_ONLY_KEY, READ_WRITE_KEY, Simulator
from airflow_provider_flokit.simulator.workspace import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_flokit.simulator.integration import IntegrationState
    from airflow_provider_flokit.simulator.server import RecordedRequest

INTEGRATIONS = [
    ("int_01hx4j7revenuecat", "revenuecat", {}),
    ("int_01hx4j7appsflyer", "appsflyer", {}),
    ("int_01hx4j7stripe", "stripe", {"status": "error", "error_message": "Webhook signature verification failed"}),
]

HELP = """\
status               show the integrations
fail [ID] [MESSAGE]  let the next sync that is triggered end in error
finish [ID]          end the sync that waits or runs, now
sync [ID]            start one of FloKit's own syncs
rotate               replace the API key: the old one is refused from now on
down                 answer no request any more
up                   answer again
help                 show this
ID is an integration's id or a part of it; without ID, the command is for all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until Ctrl-C or SIGTERM and return the exit code.

    :param arguments: the command line; default that of the process.
    """
    options = _parser().parse_args(arguments)
    simulator = Simulator(
        port=options.port,
        api_key=options.api_key,
        read_only_key=options.read_only_key,
        sync=Sync(options.start_delay, options.duration),
        on_request=lambda request: _print(_request_line(request)),
        when_running=options.when_running,
        rate_limit=options.rate_limit,
    )
    for integration_id, kind, fields in options.integration or INTEGRATIONS:
        simulator.add_integration(integration_id, kind, schedule_every=options.schedule_every, **fields)
    # Needed if it was started with Ctrl-C ignored, or in the background, where it may not read from the terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    try:
        simulator.start()
    except OSError as error:
        _print(f"Cannot listen on port {options.port}: {error}")
        return 1
    with suppress(KeyboardInterrupt), simulator:
        _print(_introduction(simulator))
        with suppress(OSError):
            for line in sys.stdin or ():
                _print(run_command(line, simulator))
        threading.Event().wait()  # no more commands will come: go on serving
    _print("stopped")
    return 0


def run_command(line: str, simulator: Simulator) -> str:
    """
    Run a typed command, and return the text to print.

    :param line: a command and its arguments; see ``help``.
    :param simulator: the simulator to control.
    """
    command, _, rest = line.strip().partition(" ")
    match command:
        case "status":
            return "\n".join(map(_integration_line, simulator.integrations))
        case "fail" | "finish" | "sync":
            return _steer_syncs(command, rest.strip(), simulator)
        case "rotate":
            simulator.rotate_key()
            return f"The old key is refused from now on. The new one:\n{_export_line(simulator)}"
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
        if not named:  # then the first word belongs to the message
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


def _introduction(simulator: Simulator) -> str:
    return "\n".join(
        [
            f"FloKit simulator: {simulator.url}  (Ctrl-C to stop)",
            f"  read-write key  {simulator.api_key}",
            f"  read-only key   {simulator.read_only_key}",
            *map(_integration_line, simulator.integrations),
            "",
            _export_line(simulator),
            "",
            "Type help to see the commands.",
        ]
    )


def _export_line(simulator: Simulator) -> str:
    return f"export AIRFLOW_CONN_FLOKIT_DEFAULT={shlex.quote(simulator.connection_uri())}"


def _request_line(request: RecordedRequest) -> str:
    time, status = f"{request.at.astimezone():%H:%M:%S}", request.status or "-"
    return f"{time}  {request.method:<4} {request.path:<46} {status:<3}  {request.note}"


def _integration_line(state: IntegrationState) -> str:
    reason = f": {state.error_message}" if state.error_message else ""
    return f"  {state.id:<24} {state.type:<18} {state.status}{reason}"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - that is what it is for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_flokit.simulator",
        description="A local FloKit API, on loopback only. Type help while it runs.",
    )
    parser.add_argument("--port", type=int, default=8765, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--api-key", metavar="K", default=READ_WRITE_KEY, help="read-write (default: %(default)s)")
    parser.add_argument("--read-only-key", metavar="K", default=READ_ONLY_KEY, help="(default: %(default)s)")
    parser.add_argument("--start-delay", metavar="S", type=float, default=2.0, help="seconds (default: %(default)s)")
    parser.add_argument("--duration", metavar="S", type=float, default=10.0, help="seconds (default: %(default)s)")
    parser.add_argument(
        "--integration",
        metavar="ID:TYPE[:STATUS]",
        type=_integration,
        action="append",
        help="may be repeated (default: three of them, one in error)",
    )
    parser.add_argument("--schedule-every", metavar="S", type=float, help="seconds between FloKit's own syncs")
    parser.add_argument("--when-running", choices=POSITIONS["when_running"], default="join")
    parser.add_argument("--rate-limit", metavar="N/SECONDS", type=_rate_limit, help="requests per window")
    return parser


def _integration(text: str) -> tuple[str, str, dict[str, str]]:
    integration_id, kind, *status = text.split(":", 2)
    return integration_id, kind, {"status": status[0]} if status else {}


def _rate_limit(text: str) -> tuple[int, float]:
    requests, seconds = text.split("/")
    return int(requests), float(seconds)


if __name__ == "__main__":
    sys.exit(main())
