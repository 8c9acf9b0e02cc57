"""``make bench``: measure everything side by side, print one table, draw one picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import environment, imports
from benchmarks.subjects import SUBJECTS
from benchmarks.table import MISSED, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WAITS: Final = 1_000
MANY: Final = 10_000
_ALL: Final = "memory,cpu,lag,slow,change,burst"
_MANY: Final = ("memory", "start,cpu,lag,change")
"""Two runs, since measuring the memory collects the garbage that the other run waits for."""

_OURS: Final = ("flokit", "sleeping")
_CURVE: Final = {"flokit": (100, 300, 3_000), "sleeping": (100, 300), "airbyte": (100,)}
"""Further numbers of waits, for the picture; peers have those of the sleeping trigger."""

_PATIENCE: Final = 900.0
"""Seconds that one measurement may take."""

Runs = dict[str, list[dict[str, float]]]


def main() -> int:
    """Run what the command line asks for; 0 if everything was measured and every goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run, fewer numbers of waits, no picture, no Airbyte")
    parser.add_argument(
        "--without-peers", action="store_true", help="nothing is installed: FloKit beside a trigger that only sleeps"
    )
    parser.add_argument("--runs", type=int, help="runs of which the median is shown (default: 3, quick: 1)")
    parser.add_argument("--only", metavar="NAME", action="append", choices=SUBJECTS, help="may be repeated")
    options = parser.parse_args()
    runs = options.runs or (1 if options.quick else 3)
    names = options.only or [name for name in SUBJECTS if not (options.quick and name == "airbyte")]
    if options.without_peers:
        names = [name for name in names if name in _OURS]
    begin = time.monotonic()
    python = Path(sys.executable) if options.without_peers else environment.prepare()
    draws = not (options.quick or options.without_peers)
    results, done = _measure(python, names, runs, with_curves=draws)
    medians = {key: _medians(value) for key, value in results.items()}
    import_cost = imports.cost(python, environment.ROOT)
    installed = environment.versions(python)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, Airflow {installed['apache-airflow']}"
    text = table(medians, runs, machine, installed, import_cost)
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"-- {(time.monotonic() - begin) / 60:.0f} minutes\n")
    if draws:
        _draw(python, medians)
    return 0 if done and MISSED not in text else 1


def _measure(python: Path, names: Sequence[str], runs: int, *, with_curves: bool) -> tuple[Runs, bool]:
    """Measure all subjects; also return whether all of it went well."""
    results: Runs = {}
    done = True
    for number in range(runs):  # all subjects in turn, so that a change of the machine's mood meets them all
        for name in names:
            if SUBJECTS[name].waits_in_thread and number > 0:
                continue
            done &= _add(results, python, name, WAITS, _ALL)
        for name in _OURS:
            for phases in _MANY if name in names else ():
                done &= _add(results, python, name, MANY, phases)
    if with_curves:
        for name in names:
            for waits in _CURVE.get(name, _CURVE["sleeping"]):
                done &= _add(results, python, name, waits, "lag")
    return results, done


def _draw(python: Path, medians: dict[str, dict[str, float]]) -> None:
    out = Path(__file__).with_name("waits.png")
    subprocess.run(  # noqa: S603 - the project's own program
        [str(python), "-m", "benchmarks.picture", str(out)],
        input=json.dumps(dict(_curves(medians))),
        text=True,
        check=True,
        cwd=environment.ROOT,
    )
    sys.stderr.write(f"-- wrote {out.relative_to(environment.ROOT)}\n")


def _add(results: Runs, python: Path, name: str, waits: int, phases: str) -> bool:
    """Measure once, in a fresh process, and tell whether that went well; what fails is left out of the table."""
    sys.stderr.write(f"-- {name}, {waits:,} waits\n")
    command = [str(python), "-m", "benchmarks.run", name, str(waits), phases]
    try:
        done = subprocess.run(  # noqa: S603 - the project's own program
            command, cwd=environment.ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"-- {name}, {waits:,} waits: not done within {_PATIENCE:g} s\n")
        return False
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error.stderr[-2000:]}\n-- {name}, {waits:,} waits: failed\n")
        return False
    results.setdefault(f"{name}:{waits}", []).append(json.loads(done.stdout.splitlines()[-1]))
    return True


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    figures = {figure: None for run in runs for figure in run}
    return {figure: median(run[figure] for run in runs if figure in run) for figure in figures}


def _curves(medians: dict[str, dict[str, float]]) -> Iterable[tuple[str, list[tuple[int, float, float]]]]:
    for name in SUBJECTS:
        points = sorted(
            (int(key.partition(":")[2]), figures["rpm"], figures["lag"])
            for key, figures in medians.items()
            if key.startswith(f"{name}:") and "lag" in figures
        )
        if points:
            yield SUBJECTS[name].title, points


if __name__ == "__main__":
    sys.exit(main())
