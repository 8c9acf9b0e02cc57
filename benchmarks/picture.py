"""The picture: ``python -m benchmarks.picture FILE``, with the curves as JSON on the standard input."""

from __future__ import annotations

import json
import sys
from typing import Final

_COLORS: Final = {
    "FloKit": "#0b6e4f",
    "only sleeps": "#9aa0a6",
    "Census": "#8e5ea2",
    "dbt Cloud": "#e07a3f",
    "Fivetran": "#3b7dd8",
    "Airbyte": "#c0392b",
}

Curves = dict[str, list[tuple[int, float, float]]]
"""By title: number of waits, requests per minute, longest stop of the loop in seconds."""


def draw(curves: Curves, path: str) -> None:
    """
    Draw requests per minute and loop lag against the number of waits.

    :param curves: What was measured.
    :param path: Where to write it; PNG or SVG by its suffix.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    titles = ("Requests per minute", "Longest stop of the event loop (ms)")
    for panel, title, column, factor in zip(panels, titles, (1, 2), (1, 1000), strict=True):
        for name, points in curves.items():
            shown = [(point[0], point[column] * factor) for point in points if point[column] > 0]
            if shown:
                width = 2.6 if name == "FloKit" else 1.4
                style = "--" if name == "only sleeps" else "-"
                color = _COLORS.get(name)
                panel.plot(*zip(*shown, strict=True), style, marker="o", ms=4, lw=width, color=color, label=name)
        panel.set(xscale="log", yscale="log", xlabel="waits in one triggerer", title=title)
        panel.set_xticks([100, 1_000, 10_000], ["100", "1,000", "10,000"])
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        panel.minorticks_off()
        panel.grid(visible=True, color="#e6e6e6", lw=0.8)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None} if path.endswith(".png") else None)


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
