"""``python -m airflow_provider_flokit.simulator``: a local FloKit API to try things out with."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator.integration import Sync
from airflow_provider_flokit.simulator.prompt import introduction, request_line, run_command
from airflow_provider_flokit.simulator.server import READ_ONLY_KEY, READ_WRITE_KEY, Simulator

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGRATIONS = [
    ("int_01hx4j7revenuecat", "revenuecat", "connected", None),
    ("int_01hx4j7appsflyer", "appsflyer", "connected", None),
    ("int_01hx4j7stripe", "stripe", "error", "Webhook signature verification failed — check your signing secret"),
]


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
        on_request=lambda request: _print(request_line(request)),
        when_running=options.when_running,
        latency=options.latency,
        rate_limit=options.rate_limit,
    )
    for integration_id, kind, status, error in options.integration or INTEGRATIONS:
        simulator.add_integration(
            integration_id, kind, status=status, error_message=error, schedule_every=options.schedule_every
        )
    # Also where it was started with Ctrl-C ignored, or in the background of a terminal, which it may not read then.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    try:
        simulator.start()
    except OSError as error:
        _print(f"Cannot listen on port {options.port}: {error}")
        return 1
    with suppress(KeyboardInterrupt), simulator:
        _print(introduction(simulator))
        _read_commands(simulator)
        threading.Event().wait()  # there is nobody to type anything: serve on
    _print("stopped")
    return 0


def _read_commands(simulator: Simulator) -> None:
    with suppress(OSError):
        for line in sys.stdin or ():
            _print(run_command(line, simulator))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_flokit.simulator",
        description="A local FloKit API, on loopback only, to try things out with. Type help once it runs.",
    )
    parser.add_argument("--port", type=int, default=8765, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--api-key", metavar="K", default=READ_WRITE_KEY, help="read-write (default: %(default)s)")
    parser.add_argument("--read-only-key", metavar="K", default=READ_ONLY_KEY, help="(default: %(default)s)")
    parser.add_argument("--start-delay", metavar="S", type=float, default=2.0, help="seconds (default: %(default)s)")
    parser.add_argument("--duration", metavar="S", type=float, default=10.0, help="seconds (default: %(default)s)")
    parser.add_argument("--latency", metavar="S", type=float, default=0.0, help="seconds per request (default: none)")
    parser.add_argument(
        "--integration",
        metavar="ID:TYPE[:STATUS]",
        type=_integration,
        action="append",
        help="may be repeated (default: three of them, one in error)",
    )
    parser.add_argument("--schedule-every", metavar="S", type=float, help="seconds between FloKit's own syncs")
    parser.add_argument("--when-running", choices=("join", "queue", "conflict"), default="join")
    parser.add_argument("--rate-limit", metavar="N/SECONDS", type=_rate_limit, help="requests per window")
    return parser


def _integration(text: str) -> tuple[str, str, str, str | None]:
    integration_id, kind, status = (*text.split(":", 2), "connected")[:3]
    return integration_id, kind, status, "The last sync failed" if status == "error" else None


def _rate_limit(text: str) -> tuple[int, float]:
    requests, seconds = text.split("/")
    return int(requests), float(seconds)


if __name__ == "__main__":
    sys.exit(main())
