"""Runs the core of the tests on each release that is declared.

    python -m tests.versions [--tensorflow=2.18] [--keras=3.11] [-- ARGS]

Each release of TensorFlow has a virtual environment of its own in `.venvs`,
which is kept; releases of Keras take turns in it. Each TensorFlow with the
newest Keras and each Keras with the newest TensorFlow run the core; every
other pair the contract with what is private of both. Ends with a table, and
fails if a pair does. Needs the standard library only; arguments after `--` are
pytest's.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import time

from tests import source_tree as tree

FOLDER = tree.ROOT / ".venvs"
CONTRACT = ("compat", "package")
# What touches TensorFlow's and Keras' own workings the most.
CORE = (
    *CONTRACT,
    "strategy",
    "family_exact",
    "monitor_callback",
    "data_load",
    "train_run",
    "elastic_multi_worker",
    "multi_worker_mirrored",
)
# Pytest's last line, such as "12 passed, 1 skipped in 3.45s".
SUMMARY = re.compile(r"(\d+ \w+, )*(\d+ \w+|no tests ran) in [\d.]+s\b")

# What a release needs beside: TensorFlow Datasets imports nothing with a newer
# one on the Protobuf of these.
BESIDE = dict.fromkeys(("2.18", "2.19"), ("tensorflow-metadata<1.18",))


def supported():
    """{package: its releases}, oldest first, as the package says."""
    path = tree.ROOT / tree.PACKAGE / "supported.py"
    found = {}
    for node in tree.parse(path).body:
        if isinstance(node, ast.Assign):
            name = node.targets[0].id.removeprefix("SUPPORTED_").lower()
            first, last = ast.literal_eval(node.value)
            major, low = map(int, first.split("."))
            high = int(last.split(".")[1])
            found[name] = [f"{major}.{i}" for i in range(low, high + 1)]
    return found


def pairs(releases):
    """(TensorFlow, Keras, the files to run), the most telling first."""
    flows, kerases = releases["tensorflow"], releases["keras"]
    core = [(flow, kerases[-1]) for flow in flows]
    core += [(flows[-1], k) for k in kerases[:-1]]
    rest = [(f, k) for f in flows for k in kerases if (f, k) not in core]
    return [(*pair, CORE) for pair in core] + [
        (*pair, CONTRACT) for pair in rest
    ]


def environment(tensorflow):
    """The Python of a release's own environment, set up if it is not."""
    folder = FOLDER / f"tf{tensorflow}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    declared = tree.ROOT / "setup.cfg"
    if stamp.exists() and stamp.stat().st_mtime > declared.stat().st_mtime:
        return python
    print(f"Setting up {tree.relative(folder)} ...", flush=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    beside = BESIDE.get(tensorflow, ())
    install(python, "-e", ".[test]", f"tensorflow=={tensorflow}.*", *beside)
    stamp.touch()
    return python


def install(python, *what):
    """Installs packages, quietly."""
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "--quiet", *what], cwd=tree.ROOT, check=True)


def run(tensorflow, keras, files, jobs, arguments):
    """Runs tests on a pair; (whether they pass, how many as pytest says)."""
    python = environment(tensorflow)
    install(python, "--no-deps", f"keras=={keras}.*")
    command = [python, "-m", "pytest", "-q", "--no-header", "-m", "not full"]
    command += arguments
    if jobs:
        command += [f"-n{jobs}", "--dist=loadfile"]
    command += [f"tests/{name}_test.py" for name in files]
    result = subprocess.run(
        command,
        cwd=tree.ROOT,
        env={**os.environ, "PYTHONPATH": str(tree.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        sys.stdout.write(result.stdout)
    return not result.returncode, summary(result.stdout)


def summary(output):
    """Pytest's last word on how many passed, or else the last line.

    TensorFlow's own messages may come after it.
    """
    lines = [line.strip("= ") for line in output.strip().splitlines()]
    said = [line for line in lines if SUMMARY.match(line)]
    return (said or lines or [""])[-1]


def main(argv):
    """Runs all pairs, or those that are asked for."""
    releases = supported()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, of in releases.items():
        parser.add_argument(f"--{name}", choices=of)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("arguments", nargs="*", help="of pytest, after `--`")
    args = parser.parse_args(argv)
    rows = []
    for tensorflow, keras, files in pairs(releases):
        if args.tensorflow in (None, tensorflow) and (
            args.keras in (None, keras)
        ):
            began = time.monotonic()
            passed, last = run(
                tensorflow, keras, files, args.jobs, args.arguments
            )
            rows.append(passed)
            print(
                f"TensorFlow {tensorflow} Keras {keras:5} "
                f"{'core' if files == CORE else 'contract':9}"
                f"{'passes' if passed else 'FAILS':7}"
                f"{time.monotonic() - began:6.0f} s  {last}",
                flush=True,
            )
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
