"""
Kill what production kills, and see that every wait ends right: ``make chaos`` (``python -m tests.system.chaos``).

It starts FloKit simulators and a real Airflow in a scratch folder, plays every case with processes that are really
killed, judges each wait by what the simulator knows, and prints one table. The exit code is 0 only if all is right.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system import chaos_celery, chaos_watchers  # noqa: F401 - with all cases
from tests.system.celery_airflow import CeleryAirflow
from tests.system.chaos_cases import CASES
from tests.system.chaos_stage import BEGAN, NEW_KEY, OLD_KEY, HeldSimulator
from tests.system.local_airflow import LocalAirflow, LocalAirflowError
from tests.system.settings import AIRFLOW_3, AIRFLOW_VERSION

if TYPE_CHECKING:
    from tests.system.chaos_stage import Case

DAGS = Path(__file__).parent / "chaos_dags"
STAGES = {"local": LocalAirflow, "celery": CeleryAirflow}
# Waits in the triggerer, by DAG: of operators, of sensors for FloKit's own syncs, of sensors with a receipt. A worker
# of Airflow 2 takes four times as long.
MANY = {
    "local": {
        "chaos_triggerer": {"sync": 160, "watch": 120, "start": 20}
        if AIRFLOW_3
        else {"sync": 45, "watch": 35, "start": 10}
    },
    "celery": {
        "chaos_triggerer": {"sync": 27, "watch": 18, "start": 9},
        "chaos_spread": {"sync": 36, "watch": 24},
        "chaos_workers_gone": {"sync": 14, "watch": 10},
        "chaos_database_many": {"sync": 11, "watch": 7},
        "chaos_replaced_many": {"sync": 11, "watch": 7},
    },
}


def play(case: Case) -> None:
    """Play a case to its end, whatever comes."""
    began = time.monotonic()
    case.tell(case.title)
    try:
        case.play(case)
    except Exception as error:
        case.problems.append(f"{type(error).__name__}: {error}")
    case.seconds = time.monotonic() - began
    case.tell("right" if case.ok else "WRONG")


def play_all(cases: list[Case], stage: str, scratch: Path) -> None:
    """Start simulators and an Airflow, and play the cases, those of one act at the same time."""
    with contextlib.ExitStack() as stack:
        env = {"CHAOS_MANY": json.dumps(MANY[stage])}
        for case in cases:
            for conn_id, switches in case.switches.items():
                case.simulators[conn_id] = stack.enter_context(HeldSimulator(**switches))
                if conn_id != "chaos_rotation":  # that one lives in the database
                    env[f"AIRFLOW_CONN_{conn_id}".upper()] = case.simulators[conn_id].connection_uri()
        airflow = stack.enter_context(STAGES[stage](scratch / "airflow", DAGS, env, parallelism=16))
        airflow.wait_until_ready()
        for _, act in groupby(sorted(cases, key=lambda case: case.act), key=lambda case: case.act):
            threads = []
            for case in act:
                case.airflow, case.many = airflow, MANY[stage]
                # Daemons, so that Ctrl-C need not wait for them.
                threads.append(threading.Thread(target=play, args=(case,), daemon=True))
                threads[-1].start()
            for thread in threads:
                thread.join()


def show(cases: list[Case]) -> None:
    """Print the table, and what was wrong."""
    head = ("case", "what was killed (-9)", "waits", "right verdicts", "syncs started", "seconds", "")
    print("", f"| {' | '.join(head)} |", "| --- " * len(head) + "|", sep="\n")
    for case in cases:
        verdict = ("ok" if case.ok else "WRONG") if case.here else "needs a newer Airflow"
        row = (case.title, case.killed, case.waits, case.right, case.syncs, f"{case.seconds:.0f}", verdict)
        print(f"| {' | '.join(map(str, row))} |")
    for case in cases:
        if not case.ok:
            print(f"\n{case.title}:", *(case.problems[:12] or ["no wait was judged"]), sep="\n  ")


def main() -> int:
    """Read the command line and play in a scratch folder, which is kept if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES], help="may be repeated")
    parser.add_argument("--stage", choices=STAGES, default="local", help="the small Airflow, or one with Celery")
    options = parser.parse_args()
    cases = [case for case in CASES if case.stage in ("", options.stage) and case.name in (options.only or case.name)]
    scratch = Path(tempfile.mkdtemp(prefix="flokit-chaos-"))
    version = ".".join(map(str, AIRFLOW_VERSION))
    print(f"FloKit and Airflow {version} ({options.stage} stage) on this machine; everything is under {scratch}")
    try:
        play_all([case for case in cases if case.here], options.stage, scratch)
    except (KeyboardInterrupt, LocalAirflowError) as error:
        print(f"\n{str(error) or 'Stopped'}. Logs and databases are kept in {scratch}")
        return 1
    show(cases)
    texts = {path: path.read_text(errors="replace") for path in scratch.rglob("*.log")}
    if told := [str(path) for path, text in texts.items() if OLD_KEY in text or NEW_KEY in text]:
        print(f"\nThe API key is to be read in {told}")
    if told or not all(case.ok for case in cases):
        print(f"\nNot all is right. Logs and databases are kept in {scratch}")
        return 1
    shutil.rmtree(scratch)
    print(f"\nAll right, after {time.monotonic() - BEGAN:.0f} s; what was started is stopped, and its files are gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
