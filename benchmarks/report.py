"""Renders the JSON files of the benchmarks as a Markdown table and as the plot of time to accuracy."""

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, limit, number

ORDER = ("step_time", "time_to_accuracy", "growth", "text_speed", "start_up", "gpu", "race")
# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/); markers differ too, so that colour alone carries nothing.
STYLES = (("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#D55E00", "v"), ("#56B4E9", "P"), ("#000000", "X"))
OURS, GREY = "#0072B2", "#777777"


def read(results: Path) -> dict[str, Any]:
    """The results in a folder, by the name of the benchmark, in the order of `ORDER`."""
    paths = {name: results / f"{name}.json" for name in ORDER}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def markdown(results: Path) -> str:
    """All goals, then all measurements of each benchmark, as Markdown tables."""
    contents = read(results)
    lines = ["## Goals", "", "| question | figure | goal | met |", "|---|---:|---:|---|"]
    for content in contents.values():
        for saved in content["goals"]:
            goal = Goal(saved["what"], saved["figure"], saved["at_least"], saved["at_most"])
            met = "yes" if goal.met else "**no**"
            lines.append(f"| {goal.what} | {number(goal.figure)} | {limit(goal)} | {met} |")
    for content in contents.values():
        lines += ["", f"## {content['question']}", "", "| | median | range | unit | |", "|---|---:|---:|---|---|"]
        for m in content["figures"]:
            spread = f"{number(m['low'])} to {number(m['high'])}"
            lines.append(f"| {m['what']} | {number(m['median'])} | {spread} | {m['unit']} | {m['note']} |")
        lines += ["", _describe_machine(content)]
    return "\n".join(lines) + "\n"


def _describe_machine(content: dict[str, Any]) -> str:
    machine, rounds = content["machine"], content["figures"][0]["rounds"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    processor = f"{machine['gpu']} with {machine['processor']}" if content["name"] == "gpu" else machine["processor"]
    return (
        f"Medians of {rounds} rounds; {processor}, {machine['cores']} cores, {machine['threads']} threads; "
        f"Python {machine['python']}, {versions}."
    )


def plot(content: dict[str, Any], path: Path) -> None:
    """Plot accuracy over time: ours as a curve with a point per epoch, each solver as the point where its fit ends.

    Args:
        content: of time_to_accuracy.json.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    ax.axhline(100 * content["target"], color=GREY, linestyle="--", linewidth=1)
    ours = [(seconds, 100 * accuracy) for seconds, accuracy in content["curve"]]
    ax.plot(*zip(*ours, strict=True), color=OURS, marker="o", markersize=5, linewidth=2, label="ours, epoch by epoch")
    solvers = list(dict.fromkeys(_solver(point) for point in content["points"]))
    for point in content["points"]:
        colour, marker = STYLES[solvers.index(_solver(point)) % len(STYLES)]
        stopped_early = "," in point["name"]  # with the fewest iterations that meet the target
        face = "none" if stopped_early else colour
        x, y = point["seconds"], 100 * point["accuracy"]
        style: dict[str, Any] = {"marker": marker, "markersize": 9, "markerfacecolor": face, "markeredgecolor": colour}
        ax.plot([x], [y], linestyle="none", markeredgewidth=2, label=point["name"], **style)
    all_seconds = [x for x, _ in ours] + [point["seconds"] for point in content["points"]]
    ax.set_xscale("log")
    ax.set_xlim(min(all_seconds) / 1.3, max(all_seconds) * 1.3)
    lowest = min([point["accuracy"] for point in content["points"]] + [content["target"]])
    ax.set_ylim(100 * lowest - 4, 92.5)  # the first epochs of ours may lie below
    ax.annotate(
        f"target {100 * content['target']:.2f} %: lbfgs less 0.2",
        (0.99, 100 * content["target"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GREY,
        fontsize=10,
    )
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("seconds of fitting, log scale", fontsize=12)
    ax.set_ylabel("in-scope accuracy on validation, %", fontsize=12)
    ax.set_title("CLINC150, the same 10,000 features for all", fontsize=13, loc="left")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=10, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _solver(point: dict[str, Any]) -> str:
    return str(point["name"]).partition(",")[0]
