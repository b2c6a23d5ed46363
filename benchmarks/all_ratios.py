"""`make bench`: every ratio that is measured in one run, in one table.

    python benchmarks/all_ratios.py [--json=bench.json] [--only=REGEX]
        [--quick]

Runs the benchmarks whose result is a ratio, one after another, each in a
process of its own; half an hour on 2 cores. The table has the median of each,
the smallest and the largest, and the goal; the JSON file all that they have
found, the machine and its load, and the commit. With --quick each does as few
repeats as it can: to see that all work. Those of hours, of a network and of
data sets are not among them: see docs/benchmarks.md.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import _report

FOLDER = pathlib.Path(__file__).parent
# Each with its arguments in --quick.
BENCHMARKS = {
    "bench_update": ["--repeats=2", "--parameters=1000000"],
    "bench_fit_step": ["--repeats=1", "--steps=2", "--batch_size=4"],
    "bench_epoch": ["--repeats=1", "--steps=2"],
    "bench_memory": [],
    "bench_exchange": ["--repeats=2", "--megabytes=1"],
    "bench_start": ["--repeats=1"],
    "bench_virtual": ["--repeats=1", "--steps=2"],
}
DEADLINE_S = 3600


def run(name, arguments):
    """What a benchmark has written, or its error."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
        begin = time.monotonic()
        try:
            ended = subprocess.run(
                [*command, f"--json={path}"],
                stdout=sys.stderr,
                timeout=DEADLINE_S,
            ).returncode
        except subprocess.TimeoutExpired:
            ended = f"none after {DEADLINE_S} s"
        if ended != 0 or not path.exists():
            return {"error": f"exit status {ended}"}
        found = json.loads(path.read_text("utf-8"))
    return {**found, "took_s": round(time.monotonic() - begin, 1)}


def row(name, ratio):
    """A line of the table."""
    median, least, most = ratio.found
    goal = "-"
    if ratio.goal is not None:
        goal = f"{'at least' if ratio.at_least else 'at most'} {ratio.goal:g}"
    return (
        f"| {ratio.what} | `{name}.py` | {median:.2f} ({least:.2f} to "
        f"{most:.2f}) | {goal} | {ratio.verdict} |"
    )


def commit():
    """Which state of the project this is."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", default="", help="file for all of it")
    parser.add_argument("--only", default="", help="of the names")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    whole = {"machine": _report.machine(), "commit": commit()}
    lines = ["| what | program | ratio | goal | |", "|---|---|---|---|---|"]
    failed = []
    for name, quick in BENCHMARKS.items():
        if not re.search(args.only, name):
            continue
        sys.stderr.write(f"== {name}\n")
        found = whole[name] = run(name, quick if args.quick else [])
        if "error" in found:
            failed.append(name)
            lines.append(f"| | `{name}.py` | {found['error']} | | failed |")
        for each in found.get("ratios", ()):
            lines.append(row(name, _report.Ratio(**each)))
        if args.json:
            path = pathlib.Path(args.json)
            path.write_text(json.dumps(whole, indent=2), "utf-8")
    machine = whole["machine"]
    print(
        f"{machine['processor']}, {machine['cores']} cores, load "
        f"{machine['load']:.1f} before; Python {machine['python']}, "
        f"TensorFlow {machine['tensorflow']}; commit {whole['commit']}\n"
    )
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
