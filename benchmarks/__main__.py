"""Run all benchmarks one after another, each in a process of its own; then write the table and the plot.

Takes about seven minutes on 2 cores; race takes longer, and is run only if --only names it. CLINC150 is read
from the folder in the environment variable CLINC150_DIR, or downloaded.
"""

import subprocess
import sys
import time

from benchmarks import measure, report

BY_NAME_ONLY = ("race",)
IMAGE = measure.ROOT / "docs/images/time_to_accuracy.png"


def main() -> None:
    """Run the benchmarks, then render."""
    parser = measure.argument_parser(__doc__)
    usual = [name for name in report.ORDER if name not in BY_NAME_ONLY]
    parser.add_argument("--only", nargs="+", choices=report.ORDER, default=usual, help="run only these")
    parser.add_argument("--render", action="store_true", help="run nothing: table and plot from the JSON files")
    parser.add_argument("--image", default=IMAGE, type=type(IMAGE), help="file of the plot")
    arguments = parser.parse_args()
    begin, failed = time.perf_counter(), []
    for name in [] if arguments.render else arguments.only:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(arguments.out.resolve())]
        start = time.perf_counter()
        process = subprocess.run([*command, "--rounds", str(arguments.rounds)], cwd=measure.ROOT)
        print(f"  ({name}: {time.perf_counter() - start:.0f} s)", flush=True)
        failed += [name] if process.returncode else []
    results = report.read(arguments.out)
    arguments.out.mkdir(parents=True, exist_ok=True)  # not there if nothing was measured
    (arguments.out / "table.md").write_text(report.markdown(arguments.out), encoding="utf-8")
    if "time_to_accuracy" in results:
        report.plot(results["time_to_accuracy"], arguments.image)
    print(f"\n{time.perf_counter() - begin:.0f} s in total; {arguments.out}/table.md")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
