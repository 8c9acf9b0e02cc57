"""The table: what was measured, beside the goals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.imports import PROCESSES
from benchmarks.subjects import INTERVAL, SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Medians = dict[str, dict[str, float]]

_PEERS: Final = ("census", "dbt", "fivetran", "airbyte")
_PACKAGES: Final = {
    "census": "airflow-provider-census",
    "dbt": "apache-airflow-providers-dbt-cloud",
    "fivetran": "airflow-provider-fivetran-async",
    "airbyte": "apache-airflow-providers-airbyte",
}
_LATENCY: Final = INTERVAL + 0.05 + 0.5
_CPU_RATIO: Final = 1.3
_MEMORY_RATIO: Final = 1.2
_STOP_RATIO: Final = 1.25
MISSED: Final = "NO"
"""What the table says of a goal that is not met."""

_IMPORT: Final = 0.01


def table(medians: Medians, runs: int, machine: str, installed: Mapping[str, str], import_cost: float) -> str:
    """
    Return the table as Markdown.

    :param medians: By subject and number of waits.
    :param runs: How many runs they are the medians of.
    :param machine: What it ran on.
    :param installed: Version by package.
    :param import_cost: Seconds that importing operator and sensor takes beyond Airflow's base classes.
    """
    ours, limit = medians.get("flokit:1000", {}), medians.get("sleeping:1000", {})
    names = [name for name in SUBJECTS if f"{name}:1000" in medians]
    rows = [["1,000 waits", *(SUBJECTS[name].title for name in names), "goal", "met"], ["---"] * (len(names) + 3)]

    def row(title: str, figure: str, show: Callable[[float], str], goal: str, bound: float | None) -> None:
        values = [medians[f"{name}:1000"].get(figure) for name in names]
        met = "-" if bound is None or figure not in ours else _yes(ours[figure] <= bound)
        rows.append([title, *("-" if v is None else show(v) for v in values), goal, met])

    def against_sleeping(title: str, figure: str, show: Callable[[float], str], ratio: float, plus: float = 0) -> None:
        bound = limit[figure] * ratio + plus if figure in limit else None
        more = f" + {_ms(plus)}" if plus else ""
        row(title, figure, show, "-" if bound is None else f"{ratio:g}x the sleeping one{more}: {show(bound)}", bound)

    row("requests per interval, all waits", "requests", _count, "1", 1.0)
    against_sleeping("CPU per wait and interval", "cpu", lambda v: _ms(v, 4), _CPU_RATIO)
    against_sleeping("longest stop of the loop", "lag", _ms, 2, 0.005)
    against_sleeping("... with 1 s API latency", "lag_slow", _ms, 2, 0.005)
    against_sleeping("... when all start at once", "lag_burst", _ms, 2, 0.005)
    row("... while all wake up", "lag_change", _ms, "-", None)
    against_sleeping("memory per wait", "memory", _kb, _MEMORY_RATIO)
    row("from the change to the last trigger fired", "latency", _s, _s(_LATENCY), _LATENCY)
    parsing = (
        f"A DAG file that imports operator and sensor pays {_ms(import_cost)} beyond Airflow's own base classes "
        f"(goal: under {_ms(_IMPORT)}, met: {_yes(import_cost < _IMPORT)}; median of {PROCESSES} fresh processes)."
    )
    many = _many(medians.get("flokit:10000"), medians.get("sleeping:10000", {}))
    return f"{_markdown(rows)}\n\n{many}\n\n{parsing}\n\n{_how(runs, machine, installed, names)}"


def _many(ours: Mapping[str, float] | None, limit: Mapping[str, float]) -> str:
    """Return the table of 10,000 waits; a stop is that of the whole life, with the wake-up that only ours has."""
    if ours is None:
        return "10,000 waits were not measured."
    rows = [["10,000 waits", "FloKit", "only sleeps", "goal", "met"], ["---"] * 5]

    def row(title: str, mine: float | None, other: float | None, show: Callable[[float], str], ratio: float) -> None:
        bound = other * ratio if other is not None and ratio else None
        goal = "-" if bound is None else f"{ratio:g}x the sleeping one: {show(bound)}"
        met = "-" if bound is None or mine is None else _yes(mine <= bound)
        rows.append([title, *("-" if v is None else show(v) for v in (mine, other)), goal, met])

    requests = ours["requests"]
    rows.append(["requests per interval, all waits", _count(requests), "0", "1", _yes(requests <= 1.0)])
    row("memory per wait", ours.get("memory"), limit.get("memory"), _kb, _MEMORY_RATIO)
    row("CPU per wait and interval", ours.get("cpu"), limit.get("cpu"), lambda v: _ms(v, 4), _CPU_RATIO)
    row("longest stop of the loop, start to end", _stop(ours), _stop(limit), _ms, _STOP_RATIO)
    row("... while they start", ours.get("lag_start"), limit.get("lag_start"), _ms, 0)
    row("... while they wait", ours.get("lag"), limit.get("lag"), _ms, 0)
    row("... while all wake up", ours.get("lag_change"), None, _ms, 0)
    row("longest garbage collection, processor time", ours.get("gc"), limit.get("gc"), _ms, _STOP_RATIO)
    row("from the change to the last trigger fired", ours.get("latency"), None, _s, 0)
    return _markdown(rows)


def _stop(figures: Mapping[str, float]) -> float | None:
    stops = [figures[name] for name in ("lag_start", "lag", "lag_change") if name in figures]
    return max(stops, default=None)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _how(runs: int, machine: str, installed: Mapping[str, str], names: list[str]) -> str:
    peers = ", ".join(f"{_PACKAGES[name]} {installed.get(_PACKAGES[name], '?')}" for name in names if name in _PEERS)
    airbyte = (
        " Airbyte, which stops the loop at each poll and so makes fewer polls than it is asked for, is measured once, "
        "over one round of its polls."
    )
    return (
        f"Made by `make bench`: medians of {runs} run{'s'[: runs != 1]}, each in a fresh process, on {machine}; "
        f"triggers run as the triggerer runs them, poll interval {INTERVAL:g} s, the API in its own process with 50 ms "
        f"latency. "
        f"Peers: {peers or 'none'}.{airbyte if 'airbyte' in names else ''}"
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:.1f}"


def _ms(value: float, digits: int = 0) -> str:
    return f"{value:,.1f} s" if value >= 1 else f"{value * 1000:.{digits or (0 if value >= 0.1 else 1)}f} ms"  # noqa: PLR2004 - as people read


def _s(value: float) -> str:
    return f"{value:.2f} s"


def _kb(value: float) -> str:
    return f"{value / 1000:,.1f} kB"


def _yes(met: bool) -> str:  # noqa: FBT001 - a cell
    return "yes" if met else MISSED
