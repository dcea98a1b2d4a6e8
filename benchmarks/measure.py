"""What all benchmarks share: interleaving, medians, a description of the machine, a table, a JSON file.

Each reported number is the median of at least five measurements. Contestants that are compared with each other are
measured in turns (A B C A B C ...), so that background load affects all of them equally. Where a first call imports
something or fills a cache, an unrecorded round comes first.

Freed memory stays with the process. By default glibc may return large blocks to the system and fetch them again in
every step, or may not, depending on what was freed before: the dense loop then takes 12 or 24 ms by chance. With the
thresholds below it always takes 12.
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
PEERS = ("fasttext-numpy2", "vowpalwabbit", "liblinear-official")
PACKAGES = ("torch", "lightning", "torchmetrics", "scikit-learn", "numpy", "scipy", *PEERS)

if sys.platform == "linux":
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(parameter, 1 << 30)


@dataclass
class Measurement:
    """A measured quantity: median and range over `rounds` measurements, in `unit`."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    note: str = ""


@dataclass
class Goal:
    """A measured ratio or share, and its lower or upper limit."""

    what: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is within its limits; NaN is not."""
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
    """Measure contestants in turns.

    Args:
        contestants: by name; each call returns one measurement. They run in this order in every round.
        rounds: number of measurements of each.
        warm_up: run each once beforehand, unrecorded.

    Returns:
        The measurements of each contestant, in the order they were taken.
    """
    measurements: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(-1 if warm_up else 0, rounds):
        for name, measure in contestants.items():
            value = measure()
            if number >= 0:
                measurements[name].append(value)
    return measurements


def summarize(what: str, unit: str, values: Sequence[float], note: str = "") -> Measurement:
    """Median and range of repeated measurements."""
    return Measurement(what, unit, statistics.median(values), min(values), max(values), len(values), note)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median of the ratios within each round, so that a slow round counts no more than any other."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(usage: Any) -> float:
    """Bytes that a process used at most, from what the resource module or os.wait4 tells of it."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant (default: 5)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON file")
    return parser


def publish(
    name: str, question: str, measurements: Sequence[Measurement], goals: Sequence[Goal], out: Path, **more: Any
) -> None:
    """Print the table, and write everything to `out`/`name`.json."""
    width = max(len(m.what) for m in measurements)
    print(f"\n{question}")
    for m in measurements:
        print(f"  {m.what:{width}}  {number(m.median):>8} {m.unit:8}  [{number(m.low)} to {number(m.high)}]  {m.note}")
    for goal in goals:
        print(f"  {'met   ' if goal.met else 'MISSED'}  {goal.what}: {number(goal.figure)}, goal {limit(goal)}")
    content = {"name": name, "question": question, "machine": machine(), "figures": [asdict(m) for m in measurements]}
    content["goals"] = [asdict(goal) | {"met": goal.met} for goal in goals]
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content | more, indent=1, ensure_ascii=False)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def limit(goal: Goal) -> str:
    """The limit of a goal as a sign and a number."""
    return f"≥ {number(goal.at_least)}" if goal.at_least is not None else f"≤ {number(goal.at_most or 0.0)}"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}" if abs(value) >= 1e-3 else f"{value:.1g}"
    )


def machine() -> dict[str, Any]:
    """Versions, threads and the kind of machine; nothing that identifies this one."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
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
        "versions": versions,
    }
