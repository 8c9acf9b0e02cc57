"""``python -m airflow_provider_flokit.simulator``: a local FloKit API to try things out with."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_flokit.simulator.keys import READ_ONLY_KEY, READ_WRITE_KEY
from airflow_provider_flokit.simulator.records import Sync
from airflow_provider_flokit.simulator.server import Simulator
from airflow_provider_flokit.simulator.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_INTEGRATIONS = (
    ("int_01hx4j7revenuecat", "revenuecat", "connected", None),
    ("int_01hx4j7appsflyer", "appsflyer", "connected", None),
    (
        "int_01hx4j7stripe",
        "stripe",
        "error",
        "Webhook signature verification failed — check your signing secret",
    ),
)


def _integration(text: str) -> tuple[str, str, str, str | None]:
    integration_id, _, rest = text.partition(":")
    kind, separator, status = rest.partition(":")
    if not integration_id or not kind or (separator and not status):
        msg = f"{text!r} is not id:type or id:type:status"
        raise argparse.ArgumentTypeError(msg)
    status = status or "connected"
    return integration_id, kind, status, "The last sync failed" if status == "error" else None


def _rate_limit(text: str) -> tuple[int, float]:
    requests, _, seconds = text.partition("/")
    try:
        return int(requests), float(seconds or 1)
    except ValueError:
        msg = f"{text!r} is not REQUESTS/SECONDS"
        raise argparse.ArgumentTypeError(msg) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_flokit.simulator",
        description="A local FloKit API, on loopback only, to try things out with.",
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


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Serve until Ctrl-C or SIGTERM and return the exit code.

    :param arguments: the command line; default that of the process.
    """
    terminal = Terminal()
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        simulator = Simulator(
            port=options.port,
            api_key=options.api_key,
            read_only_key=options.read_only_key,
            sync=Sync(start_delay=options.start_delay, duration=options.duration),
            on_request=terminal.request,
            when_running=options.when_running,
            latency=options.latency,
            rate_limit=options.rate_limit,
        )
        for integration_id, kind, status, error in options.integration or DEFAULT_INTEGRATIONS:
            simulator.add_integration(
                integration_id,
                kind,
                status=status,
                error_message=error,
                schedule_every=options.schedule_every,
            )
    except ValueError as error:
        parser.error(str(error))
    enough = threading.Event()
    stops = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: enough.set()) for number in stops]
    try:
        simulator.start()
    except OSError as error:
        terminal.say(f"Cannot listen on port {options.port}: {error}")
        return 1
    else:
        terminal.introduce(simulator)
        enough.wait()
        simulator.stop()
        terminal.say(f"{datetime.now().astimezone():%H:%M:%S}  stopped")
        return 0
    finally:
        for number, handler in zip(stops, before, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
