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
_CPU_RATIO: Final = 30
_MEMORY_RATIO: Final = 1.5
MISSED: Final = "NO"
"""What the table says of a goal that is not met."""

_MANY_STOP: Final = 0.25
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
    rows = [
        ["1,000 waits", *(SUBJECTS[name].title for name in names), "best peer / ours", "goal", "met"],
        ["---"] * (len(names) + 4),
    ]

    def row(title: str, figure: str, show: Callable[[float], str], goal: str, met: bool | None) -> None:  # noqa: FBT001 - a cell
        values = [medians[f"{name}:1000"].get(figure) for name in names]
        peers = [v for name, v in zip(names, values, strict=True) if name in _PEERS and v is not None]
        mine = ours.get(figure)
        ratio = f"{min(peers) / mine:,.1f}" if peers and mine else "-"
        cells = ["-" if v is None else show(v) for v in values]
        rows.append([title, *cells, ratio, goal, "-" if met is None else _yes(met)])

    def below(figure: str, bound: float | None) -> bool | None:
        return None if bound is None or figure not in ours else ours[figure] <= bound

    cpus = [medians[f"{name}:1000"]["cpu"] for name in _PEERS if "cpu" in medians.get(f"{name}:1000", {})]
    cpu = min(cpus) / _CPU_RATIO if cpus else None
    memory = limit["memory"] * _MEMORY_RATIO if "memory" in limit else None
    row("requests per interval, all waits", "requests", _count, "1", below("requests", 1.0))
    row(
        "CPU per wait and poll",
        "cpu",
        lambda v: _ms(v, 4),
        "-" if cpu is None else f"1/{_CPU_RATIO} of the best peer: {_ms(cpu, 4)}",
        below("cpu", cpu),
    )
    for title, figure in (
        ("longest stop of the loop", "lag"),
        ("... with 1 s API latency", "lag_slow"),
        ("... when all start at once", "lag_burst"),
    ):
        bound = 2 * limit[figure] + 0.005 if figure in limit else None
        goal = "-" if bound is None else f"2x the sleeping one + 5 ms: {_ms(bound)}"
        row(title, figure, _ms, goal, below(figure, bound))
    row("... while all wake up", "lag_change", _ms, "-", None)
    row(
        "memory per wait",
        "memory",
        _kb,
        "-" if memory is None else f"{_MEMORY_RATIO}x the sleeping one: {_kb(memory)}",
        below("memory", memory),
    )
    row("from the change to the last trigger fired", "latency", _s, _s(_LATENCY), below("latency", _LATENCY))
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    parsing = (
        f"A DAG file that imports operator and sensor pays {_ms(import_cost)} beyond Airflow's own base classes "
        f"(goal: under {_ms(_IMPORT)}, met: {_yes(import_cost < _IMPORT)}; median of {PROCESSES} fresh processes)."
    )
    return f"{text}\n\n{_many(medians.get('flokit:10000'))}\n\n{parsing}\n\n{_how(runs, machine, installed, names)}"


def _many(figures: Mapping[str, float] | None) -> str:
    if figures is None:
        return "10,000 waits were not measured."
    stop = max(figures["lag"], figures["lag_change"])
    latency = figures.get("latency")
    rows = [
        ("10,000 waits", "FloKit", "goal", "met"),
        ("---",) * 4,
        ("requests per interval, all waits", _count(figures["requests"]), "1", _yes(figures["requests"] <= 1.0)),
        (
            "longest stop of the loop",
            _ms(figures["lag"]),
            f"under {_ms(_MANY_STOP)}",
            _yes(figures["lag"] < _MANY_STOP),
        ),
        ("... wake-up of all 10,000 included", _ms(stop), f"under {_ms(_MANY_STOP)}", _yes(stop < _MANY_STOP)),
        ("CPU per wait and poll", _ms(figures["cpu"], 4), "-", "-"),
        ("from the change to the last trigger fired", "not all fired" if latency is None else _s(latency), "-", "-"),
    ]
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
