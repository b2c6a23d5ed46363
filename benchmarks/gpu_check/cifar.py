"""CIFAR-10 for an epoch by train.py."""

import json
import pathlib
import subprocess
import sys
import tempfile

from benchmarks.gpu_check import finding
from benchmarks.gpu_check.finding import Finding

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH_SIZE = 128
GOAL = 0.85  # Chance is 0.9.
DEADLINE_S = 1200.0


def run(setting):
    if setting.data_dir:
        name = "CIFAR-10"
        data = ["--dataset=cifar10", f"--data_dir={setting.data_dir}"]
    elif setting.small:
        name, data = "digits, for CIFAR-10", ["--dataset=digits"]
    else:
        why = "needs --data_dir, a folder of TFDS with CIFAR-10"
        return [Finding("CIFAR-10 by train.py", why, "", finding.SKIPPED)]
    report = report_of(setting, data)
    error = report["center"]["test_error"]
    images = report["throughput"]["images_per_s"]
    return [
        finding.judged(
            setting,
            f"{name} for an epoch: test error of the center",
            f"{error:.3f}",
            f"below {GOAL}",
            error < GOAL,
        ),
        Finding(
            f"{name}: images/s, start and tracing included",
            f"{images:.0f}",
            "",
            finding.TOLD,
        ),
    ]


def report_of(setting, data):
    """What train.py reports of a run."""
    some = ["--steps_per_epoch=4"] if setting.small else []
    with tempfile.TemporaryDirectory(prefix="cifar_") as folder:
        path = pathlib.Path(folder, "report.json")
        subprocess.run(
            [
                *(sys.executable, "train.py", "--epochs=1", *data, *some),
                *("--workers=1", "--optimizer=eamsgd", "--momentum=0.9"),
                *("--learning_rate=0.01", f"--batch_size={BATCH_SIZE}"),
                *(f"--device={setting.device.lower()}", f"--report={path}"),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=DEADLINE_S,
        )
        return json.loads(path.read_text(encoding="utf-8"))
