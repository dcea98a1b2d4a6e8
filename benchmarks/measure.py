"""What every benchmark here shares: taking turns, medians, facts about the machine, a table, a JSON file.

A figure is the median of at least five measurements. Those of contestants that are compared with each other are taken
in turns (A B C A B C ...), so that whatever else the machine does meets all of them alike. Where a first call
imports something or fills a cache, a round that does not count goes before.

Memory that is freed stays with the process. By default the C library on Linux may give large blocks back to the system
and fetch them anew in every step, or may not, depending on what was freed before: the dense loop then takes 12 or 24 ms
by chance. Here it always takes 12.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
PACKAGES = ("torch", "lightning", "torchmetrics", "scikit-learn", "numpy", "scipy", "skorch")

if sys.platform == "linux":
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(parameter, 1 << 30)


@dataclass
class Figure:
    """One measured quantity: its median and its range."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    note: str = ""


@dataclass
class Goal:
    """A ratio, or a share, that is to be at least or at most so much."""

    what: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure lies on the right side of its limits; a figure that is not a number does not."""
        above = self.at_least is None or self.figure >= self.at_least
        return above and (self.at_most is None or self.figure <= self.at_most)


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(
    contestants: Mapping[str, Callable[[], float]], rounds: int = 5, warm_up: bool = True
) -> dict[str, list[float]]:
    """Let the contestants take turns; each call returns its own measurement.

    Args:
        contestants: by name; they run in this order in every round.
        rounds: how many measurements to take of each.
        warm_up: let each run once beforehand, unrecorded.

    Returns:
        The measurements of each contestant, in the order they were taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(-1 if warm_up else 0, rounds):
        for name, measure in contestants.items():
            measured = measure()
            if number >= 0:
                taken[name].append(measured)
    return taken


def figure(what: str, unit: str, taken: Sequence[float], note: str = "") -> Figure:
    """Median and range of what was measured."""
    return Figure(what, unit, statistics.median(taken), min(taken), max(taken), len(taken), note)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Of two contestants: the median of the ratios within each round, which a slow minute of the machine spares."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant (default: 5)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON file")
    return parser


def publish(name: str, question: str, figures: Sequence[Figure], goals: Sequence[Goal], out: Path, **more: Any) -> None:
    """Print the table, and write everything to `out`/`name`.json."""
    width = max(len(f.what) for f in figures)
    print(f"\n{question}")
    for f in figures:
        print(f"  {f.what:{width}}  {number(f.median):>8} {f.unit:8}  [{number(f.low)} to {number(f.high)}]  {f.note}")
    for goal in goals:
        print(f"  {'met   ' if goal.met else 'MISSED'}  {goal.what}: {number(goal.figure)}, goal {limit(goal)}")
    content = {"name": name, "question": question, "machine": machine(), "figures": [asdict(f) for f in figures]}
    content["goals"] = [asdict(goal) | {"met": goal.met} for goal in goals]
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content | more, indent=1, ensure_ascii=False)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def limit(goal: Goal) -> str:
    """The goal as a sign and a number."""
    return f"≥ {number(goal.at_least)}" if goal.at_least is not None else f"≤ {number(goal.at_most or 0.0)}"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}" if abs(value) >= 1e-3 else f"{value:.1g}"
    )


def machine() -> dict[str, Any]:
    """Versions, threads and the kind of machine; nothing that names this one."""
    import torch

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": found,
    }
