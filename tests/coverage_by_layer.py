"""How much of each layer a part of the tests runs.

    python -m tests.coverage_by_layer [ARGS]

Runs the files of `PART`, which take less than a minute, and prints a table.
`ARGS` are pytest's. It is no gate: what other processes run is not counted, nor
what TensorFlow traces from a copy of its own; the other tests run more.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from tests import source_tree as tree

# Of each layer what runs most of it in the least time.
PART = (
    "core_rules",
    "cluster_exact",
    "data_register",
    "files",
    "methods_table",
    "models",
    "monitor_report",
    "program_console",
    "stability",
    "strategy",
    "theory_round_robin",
    "train_flags",
)


def by_layer(report):
    """[(layer, statements, those that ran)] of a report of coverage.py.

    Args:
        report: its JSON, with paths from the root.
    """
    sums = {layer: [0, 0] for layer in tree.LAYERS}
    for path, file in report["files"].items():
        layer = tree.layer_of_file(tree.ROOT / path)
        if layer in sums:  # The root is a list of names.
            sums[layer][0] += file["summary"]["num_statements"]
            sums[layer][1] += file["summary"]["covered_lines"]
    return [(layer, *counts) for layer, counts in sums.items() if counts[0]]


def table(rows):
    """The rows as text, and their sum."""
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    lines = [f"{'layer':12}{'statements':>12}{'run':>8}{'':>7}"]
    lines += [
        f"{layer:12}{statements:12,}{run:8,}{run / statements:7.0%}"
        for layer, statements, run in [*rows, total]
    ]
    return "\n".join(lines)


def main(argv):
    """Runs the part and prints the table; the exit status of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "coverage.json"
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-m", "not full"),
                "--plain-graphs",
                f"--cov={tree.PACKAGE}",
                f"--cov-report=json:{report}",
                *(f"tests/{name}_test.py" for name in PART),
                *argv,
            ],
            cwd=tree.ROOT,
            env={**os.environ, "COVERAGE_FILE": f"{folder}/data"},
        )
        if report.exists():
            rows = by_layer(json.loads(report.read_text(encoding="utf-8")))
            sys.stdout.write(f"\n{table(rows)}\n")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
