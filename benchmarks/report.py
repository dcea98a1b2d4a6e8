"""From the JSON files of the benchmarks to a table in Markdown and the plot of time to accuracy."""

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, limit, number

ORDER = ("step_time", "time_to_accuracy", "growth", "text_speed", "bandwidth", "start_up", "boundary", "gpu")
# Okabe and Ito's palette, and a marker each, so that nothing hangs on colour alone.
LOOKS = (("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#D55E00", "v"), ("#56B4E9", "P"), ("#000000", "X"))
OURS, GREY = "#0072B2", "#777777"


def read(results: Path) -> dict[str, Any]:
    """What the benchmarks have left in a folder, by name, in the order of the questions."""
    found = {name: results / f"{name}.json" for name in ORDER}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.is_file()}


def markdown(results: Path) -> str:
    """Goals first, then all figures of each benchmark."""
    parts = read(results)
    lines = ["## Goals", "", "| question | figure | goal | met |", "|---|---:|---:|---|"]
    for part in parts.values():
        for saved in part["goals"]:
            goal = Goal(saved["what"], saved["figure"], saved["at_least"], saved["at_most"])
            met = "yes" if goal.met else "**no**"
            lines.append(f"| {goal.what} | {number(goal.figure)} | {limit(goal)} | {met} |")
    for part in parts.values():
        lines += ["", f"## {part['question']}", "", "| | median | range | unit | |", "|---|---:|---:|---|---|"]
        for f in part["figures"]:
            spread = f"{number(f['low'])} to {number(f['high'])}"
            lines.append(f"| {f['what']} | {number(f['median'])} | {spread} | {f['unit']} | {f['note']} |")
        lines += ["", _machine(part)]
    return "\n".join(lines) + "\n"


def _machine(part: dict[str, Any]) -> str:
    machine, rounds = part["machine"], part["figures"][0]["rounds"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['gpu']}, beside {machine['processor']}" if part["name"] == "gpu" else machine["processor"]
    return (
        f"Medians of {rounds} rounds; {where}, {machine['cores']} cores, {machine['threads']} threads; "
        f"Python {machine['python']}, {versions}."
    )


def plot(part: dict[str, Any], path: Path) -> None:
    """Accuracy over time: ours as a curve, one point per epoch; each of the others as the point where it ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    ax.axhline(100 * part["target"], color=GREY, linestyle="--", linewidth=1)
    ours = [(seconds, 100 * accuracy) for seconds, accuracy in part["curve"]]
    ax.plot(*zip(*ours, strict=True), color=OURS, marker="o", markersize=5, linewidth=2, label="ours, epoch by epoch")
    solvers = list(dict.fromkeys(_solver(point) for point in part["points"]))
    for point in part["points"]:
        colour, marker = LOOKS[solvers.index(_solver(point)) % len(LOOKS)]
        early = "," in point["name"]  # stopped as soon as it met the target
        face = "none" if early else colour
        x, y = point["seconds"], 100 * point["accuracy"]
        look: dict[str, Any] = {"marker": marker, "markersize": 9, "markerfacecolor": face, "markeredgecolor": colour}
        ax.plot([x], [y], linestyle="none", markeredgewidth=2, label=point["name"], **look)
    everything = [x for x, _ in ours] + [point["seconds"] for point in part["points"]]
    ax.set_xscale("log")
    ax.set_xlim(min(everything) / 1.3, max(everything) * 1.3)
    lowest = min([point["accuracy"] for point in part["points"]] + [part["target"]])
    ax.set_ylim(100 * lowest - 4, 92.5)  # of ours, the first epochs may lie below
    ax.annotate(
        f"target {100 * part['target']:.2f} %: lbfgs less 0.2",
        (0.01, 100 * part["target"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),
        textcoords="offset points",
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
