"""
Kill what production kills, and see that every wait ends right: ``make chaos`` (``python -m tests.system.chaos``).

It starts FloKit simulators and a real Airflow in a scratch folder, plays every case with processes that are really
killed, judges each wait by what the simulator knows, and prints one table. The exit code is 0 only if every row is
right. ``--only NAME`` plays one case (may be repeated), ``--list`` names them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.system import chaos_celery  # with all cases
from tests.system.celery_airflow import CeleryAirflow, missing_programs
from tests.system.chaos_cases import CASES, COUNTS, START_TIMEOUT
from tests.system.chaos_stage import HeldSimulator, Row, Stage, StoppedError, keys_in
from tests.system.local_airflow import LocalAirflow, LocalAirflowError, exit_on_signal
from tests.system.settings import AIRFLOW_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.chaos_stage import Case

DAGS = Path(__file__).parent / "chaos_dags"
LIMIT = 1500.0
"""Seconds after which a case that has not ended is given up."""

PARALLELISM = 16
STAGES = {"local": COUNTS, "celery": chaos_celery.COUNTS}
"""How many waits of each kind the triggerer is killed under, on the small Airflow and with Celery."""

PROBLEMS_SHOWN = 12

console = Console(highlight=False, soft_wrap=True)
_began = time.monotonic()


def tell(what: str, style: str = "") -> None:
    """Print a line of progress."""
    console.print(f"{time.monotonic() - _began:6.1f} s  {what}", style=style, markup=False)


def play(case: Case, row: Row, stage: Stage) -> None:
    """Play a case to its end, whatever comes."""
    began = time.monotonic()
    tell(f"{case.name}: {case.title}")
    try:
        case.play(stage, row)
    except StoppedError:
        return
    except Exception as error:
        row.problems.append(f"{type(error).__name__}: {error}")
    row.seconds, row.ended = time.monotonic() - began, True
    tell(f"{case.name}: {'right' if row.ok else 'WRONG'}, {row.right} of {row.waits} waits", "" if row.ok else "red")


def _act(case: Case) -> int:
    return case.act


def play_all(rows: dict[str, Row], cases: Sequence[Case], stage: Stage) -> None:
    """Play the cases, those of one act at the same time."""
    for number, act in groupby(sorted(cases, key=_act), key=_act):
        tell(f"Act {number}", "bold")
        # Daemons, so that Ctrl-C need not wait for them.
        threads = [threading.Thread(target=play, args=(case, rows[case.name], stage), daemon=True) for case in act]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                if time.monotonic() - _began > LIMIT:
                    tell(f"not over after {LIMIT:g} s: given up", "bold red")
                    return


def start_and_play(scratch: Path, rows: dict[str, Row], cases: Sequence[Case], on: str) -> None:
    """Start simulators and an Airflow, and play the cases."""
    counts = STAGES[on]
    start = CeleryAirflow if on == "celery" else LocalAirflow
    with contextlib.ExitStack() as stack:
        simulators: dict[str, HeldSimulator] = {}
        env = {
            "CHAOS_COUNTS": json.dumps(counts),
            "CHAOS_MANY": json.dumps(chaos_celery.MANY),
            "CHAOS_BEGAN": datetime.now(UTC).isoformat(),
            "CHAOS_START_TIMEOUT": str(START_TIMEOUT),
        }
        for case in cases:
            for conn_id, switches in case.simulators.items():
                simulators[conn_id] = stack.enter_context(HeldSimulator(**switches))
                if conn_id != "chaos_rotation":  # that one lives in the database
                    env[f"AIRFLOW_CONN_{conn_id}".upper()] = simulators[conn_id].connection_uri()
        tell("Airflow starts, with a database of its own")
        airflow = stack.enter_context(start(scratch / "airflow", DAGS, env, parallelism=PARALLELISM))
        stage = Stage(airflow, simulators, tell, counts)
        stack.callback(stage.close)
        # Called first on the way out: an impatient second Ctrl-C must not leave processes behind.
        stack.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        airflow.wait_until_ready()
        play_all(rows, cases, stage)


def show(rows: Sequence[Row], on: str) -> None:
    """Print the table, and what was wrong."""
    title = f"Airflow {'.'.join(map(str, AIRFLOW_VERSION))}, {on} stage"
    table = Table(title=title, title_justify="left")
    for title in ("case", "what was killed (-9)"):
        table.add_column(title)
    for title in ("waits", "right verdicts", "syncs started", "seconds"):
        table.add_column(title, justify="right")
    table.add_column("ok?")
    for row in rows:
        if row.not_here:
            table.add_row(row.title, row.killed, "-", "-", "-", "-", "n/a")
            continue
        numbers = (row.waits, row.right, row.syncs, f"{row.seconds:.0f}")
        table.add_row(row.title, row.killed, *map(str, numbers), "ok" if row.ok else "WRONG")
    Console(highlight=False, width=max(console.width, 140)).print(table)
    for row in rows:
        if row.not_here:
            console.print(f"n/a on this Airflow: {row.title} ({row.not_here})", markup=False)
        if not row.ok:
            console.print(f"\n{row.title}:", style="bold red", markup=False)
            for problem in row.problems[:PROBLEMS_SHOWN] or ["no wait was judged"]:
                console.print(f"  {problem}", markup=False)
            if len(row.problems) > PROBLEMS_SHOWN:
                console.print(f"  ... and {len(row.problems) - PROBLEMS_SHOWN} more")


def chaos(cases: Sequence[Case], on: str) -> int:
    """Play cases in a scratch folder, which is kept only if something was wrong."""
    scratch = Path(tempfile.mkdtemp(prefix="flokit-chaos-"))
    version = ".".join(map(str, AIRFLOW_VERSION))
    console.print(f"FloKit and Airflow {version} on this machine; everything is under {scratch}", style="bold")
    rows = {case.name: Row(case.title, case.killed) for case in cases}
    for case in cases:
        if case.since > AIRFLOW_VERSION:
            rows[case.name].not_here = case.because
    failed = False
    try:
        start_and_play(scratch, rows, [case for case in cases if not rows[case.name].not_here], on)
    except (LocalAirflowError, TimeoutError) as error:
        console.print(f"\n{error}", style="bold red", markup=False)
        failed = True
    except (KeyboardInterrupt, SystemExit) as stop:
        console.print(f"\nStopped. Everything that was started is stopped; logs and databases are kept in {scratch}")
        return int(stop.code or 0) if isinstance(stop, SystemExit) else 130
    show(list(rows.values()), on)
    told = keys_in(scratch)
    if told:
        console.print(f"The API key is to be read in {told}", style="bold red", markup=False)
    failed = failed or bool(told) or not all(row.ok for row in rows.values())
    if failed:
        console.print(f"\nNot all is right. Logs and databases are kept in {scratch}", style="bold red")
        return 1
    shutil.rmtree(scratch)
    console.print(
        f"All right, after {time.monotonic() - _began:.0f} s. Everything that was started is stopped, and its files "
        f"are gone.",
        style="green",
    )
    return 0


def main() -> int:
    """Read the command line and play."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__.split("\n\n")[0])
    names = [case.name for case in CASES]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--stage", choices=STAGES, default="local", help="the small Airflow, or one with Celery")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, exit_on_signal)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if started with Ctrl-C ignored
    if options.list:
        for case in CASES:
            console.print(f"{case.name:<18}{case.title}", markup=False)
        return 0
    if options.stage == "celery" and (missing := missing_programs()):
        console.print("\n".join(missing), style="bold red", markup=False)
        return 2
    cases = [case for case in CASES if case.only_on in ("", options.stage)]
    return chaos([case for case in cases if not options.only or case.name in options.only], options.stage)


if __name__ == "__main__":
    sys.exit(main())
