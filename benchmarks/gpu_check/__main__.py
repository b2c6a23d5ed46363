"""What nobody could check without a card, in one command.

    make gpu-check
    python -m benchmarks.gpu_check [--only=NAME ...] [--data_dir=DIR]
        [--json=PATH] [--device=CPU --small]

Prints a table. Ends with status 0 if nothing has missed its goal or failed,
1 if something has, 2 if there is no such device. `--device=CPU --small` runs
the same on a CPU, to see that it can be run.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

from benchmarks.gpu_check import finding
from benchmarks.gpu_check.finding import Finding
from benchmarks.gpu_check.setting import Setting

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = {
    "conformance": "the project's conformance tests, on logical devices",
    "agreement": "the same steps as on logical CPU devices, in float64",
    "update": "the fused update against the bandwidth of a copy",
    "overlap": "one worker and its center, overlapped, against no exchange",
    "copies": "copies between device and host, in a profiler's trace",
    "mixed_precision": "mixed_float16 and mixed_bfloat16",
    "memory": "the peak of memory, against weights and slots",
    "cifar": "CIFAR-10 for an epoch by train.py",
}
NO_CARD = """\
There is no GPU that TensorFlow can use, so nothing was checked. This needs
  a card of NVIDIA and its driver (what `nvidia-smi` says: {driver}),
  a TensorFlow with CUDA: {tensorflow}.
`make gpu-check` installs tensorflow[and-cuda]; TensorFlow's own messages, which
`python -c "import tensorflow as tf; tf.config.list_physical_devices('GPU')"`
shows, say what it misses. `--device=CPU --small` runs the checks on the CPU."""


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["GPU", "CPU"], default="GPU")
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--data_dir", help="of CIFAR-10, prepared by TFDS")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument(
        "--only", action="append", choices=CHECKS, help="a check; again: more"
    )
    parser.add_argument(
        "--deadline_s",
        type=float,
        default=1800.0,
        help="for each check, in seconds (%(default)s)",
    )
    parser.add_argument("--run", choices=CHECKS, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    setting = Setting(args.device, args.small, args.data_dir)
    if args.run:  # This process is a check's own.
        found = importlib.import_module(f"benchmarks.gpu_check.{args.run}").run(
            setting
        )
        pathlib.Path(args.json).write_text(json.dumps(found), encoding="utf-8")
        return 0
    machine = about_machine()
    if args.device == "GPU" and not machine["gpus"]:
        print(
            NO_CARD.format(
                driver=machine["driver"] or "it is not there, or sees none",
                tensorflow=f"{machine['tensorflow']} here is built with "
                f"CUDA {machine['cuda'] or '(none)'}",
            )
        )
        return 2
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    findings = []
    for name in args.only or CHECKS:
        print(f"\n== {name}: {CHECKS[name]}", flush=True)
        found = in_process(name, args)
        print(finding.table(found), flush=True)
        findings += found
    print(f"\n{finding.table(findings)}")
    if args.json:
        result = {
            "device": args.device,
            "small": args.small,
            "machine": machine,
            "findings": [one._asdict() for one in findings],
        }
        pathlib.Path(args.json).write_text(
            json.dumps(result, indent=2), encoding="utf-8"
        )
    return int(any(one.outcome in finding.BAD for one in findings))


def in_process(name, args):
    """Runs a check in a process of its own: its devices, and its memory.

    Returns:
        Its findings; one that has failed, with the end of its log, if it did
        not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        path = pathlib.Path(folder, "found.json")
        log = pathlib.Path(folder, "log")
        command = [
            *(sys.executable, "-m", "benchmarks.gpu_check"),
            *(f"--run={name}", f"--json={path}", f"--device={args.device}"),
            *["--small"] * args.small,
        ]
        if args.data_dir:
            command.append(f"--data_dir={os.path.abspath(args.data_dir)}")
        ended = run_logged(command, log, args.deadline_s)
        if ended is None:
            lines = json.loads(path.read_text(encoding="utf-8"))
            return [Finding(*line) for line in lines]
        end = log.read_text("utf-8", "replace").splitlines()[-15:]
        error = "\n".join([ended, *end])
    return [Finding(name, "", "", finding.FAILED, error)]


def run_logged(command, log, deadline_s):
    """Runs a program of this folder; None, or how it has failed."""
    with open(log, "wb") as file:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(),
                check=True,
                timeout=deadline_s,
            )
        except subprocess.CalledProcessError as error:
            return f"It has ended with status {error.returncode}:"
        except subprocess.TimeoutExpired:
            return f"It was ended after {deadline_s:g} s (--deadline_s):"
    return None


def environment():
    """Of a check's process."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


_ASK = """
import json
import tensorflow as tf
gpus = [
    tf.config.experimental.get_device_details(gpu)
    for gpu in tf.config.list_physical_devices("GPU")
]
build = tf.sysconfig.get_build_info()
print(json.dumps({
    "gpus": [gpu.get("device_name", "?") for gpu in gpus],
    "capability": [gpu.get("compute_capability") for gpu in gpus],
    "tensorflow": tf.__version__,
    "cuda": build.get("cuda_version"),
    "cudnn": build.get("cudnn_version"),
}))
"""


def about_machine():
    """Cards, driver and versions; asked by a process that holds no memory."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
    )
    if asked.returncode:
        end = "\n".join(asked.stderr.splitlines()[-15:])
        raise SystemExit(f"TensorFlow does not even start here:\n{end}")
    found = json.loads(asked.stdout.splitlines()[-1])
    return {**found, "driver": driver(), "python": platform.python_version()}


def driver():
    """The driver's version; None where `nvidia-smi` is not there."""
    query = ["--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(
            ["nvidia-smi", *query],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(asked.stdout.split()), None)


if __name__ == "__main__":
    sys.exit(main())
