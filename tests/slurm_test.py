"""`sbatch deploy/slurm/train.sbatch` on a real Slurm: `make test-slurm`.

Two nodes on this machine, see `slurm_support`. Skipped where Slurm is not
installed, or who asks is not root.
"""

import csv
import json
import os
import signal
import sys

import pytest

from tests import cluster_support as support
from tests import slurm_support
from tests import source_tree as tree

WHY_NOT = slurm_support.why_not()
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=f"Slurm: {WHY_NOT}"),
    pytest.mark.timeout(600),
]
SBATCH = tree.ROOT / "deploy" / "slurm" / "train.sbatch"
DEADLINE_S = 240
EPOCHS = 20
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    made = slurm_support.Slurm(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


def _text(path):
    return path.read_text() if path.exists() else ""


class Job:
    """A job of two workers and two centers, one of each on a node."""

    def __init__(self, slurm, folder, *args):
        (folder / "train.py").symlink_to(tree.ROOT / "train.py")
        self.folder = folder
        self._slurm = slurm
        self.number = slurm.submit(
            SBATCH,
            *args,
            options=["--ntasks=2", "--cpus-per-task=1"],
            cwd=folder,
            PYTHON=sys.executable,
            PYTHONPATH=str(tree.ROOT),
            TF_NUM_INTRAOP_THREADS="1",
            TF_NUM_INTEROP_THREADS="2",
            TF_CPP_MIN_LOG_LEVEL="3",
        )

    def path(self, name):
        """What the script makes for the job."""
        return self.folder / f"runs/slurm-{self.number}" / name

    def log(self, name):
        return _text(self.path(f"logs/{name}.log"))

    def logs(self):
        paths = [*self.path("logs").glob("*.log"), *self.folder.glob("*.log")]
        return "\n".join(f"{p.name}:\n{p.read_text()}" for p in sorted(paths))

    def until(self, condition):
        try:
            support.until(condition, DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(self.logs()) from error

    def kill(self, role, index, number=signal.SIGKILL):
        """Kills a task that runs."""
        os.kill(self._slurm.task(role, index), number)

    def end(self):
        """Waits for the end; what Slurm says of it."""
        told = {}

        def has_ended():
            told.update(self._slurm.job(self.number))
            return told["JobState"] in ENDED

        self.until(has_ended)
        # No process of it is left.
        self.until(
            lambda: not any(
                self._slurm.task(role, index)
                for role in ("worker", "ps")
                for index in (0, 1)
            )
        )
        return told["JobState"], told["ExitCode"]


def test_a_job_whose_tasks_are_killed(slurm, tmp_path):
    """The documented command; a worker, a center and the chief are killed."""
    job = Job(
        slurm,
        tmp_path,
        f"--epochs={EPOCHS}",
        "--steps_per_epoch=40",
        "--batch_size=32",
        "--momentum=0.5",
        "--beta=0.5",
        "--seed=1",
        "--model_dir=runs/new",
        "--report=runs/new/report.json",
    )
    new = tmp_path / "runs" / "new"
    joined = "worker 1 has joined (incarnation {})"
    # Made by the chief, since nobody else does.
    job.until(lambda: len(_text(new / "history.csv").splitlines()) > 1)
    job.until(lambda: joined.format(1) in job.log("ps-1"))
    job.kill("worker", 1)
    job.until(lambda: any(job.path("snapshots/ps-0").glob("*.snapshot")))
    job.kill("ps", 0)
    job.until(lambda: joined.format(2) in job.log("ps-1"))
    job.until(lambda: job.log("ps-0").count("serves on") == 2)
    job.kill("worker", 0)
    assert job.end() == ("COMPLETED", "0:0"), job.logs()
    for task in ("worker 0", "worker 1", "ps 0"):
        text = job.log(task.replace(" ", "-"))
        assert (
            f"The {task} ended with status 137. It is started again, restart "
            "1 of at most 10.\n" in text
        )
        assert text.count("It is started again") == 1
    assert "Traceback" not in job.logs()
    assert "goes on at version" in job.log("ps-0")
    # Told to end with the job, they take a last snapshot.
    for name in ("ps-0", "ps-1"):
        assert "ends at version" in job.log(name)
    with open(new / "history.csv", newline="") as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs[0] == 0 and epochs == sorted(set(epochs))
    assert (new / "model.keras").stat().st_size > 0
    report = json.loads(_text(new / "report.json"))
    assert report["center"]["test_error"] < 0.35
    members = report["cluster"]["members"]
    assert {k: v["incarnation"] for k, v in members.items()} == {"0": 2, "1": 2}


def test_a_job_whose_chief_cannot_save(slurm, tmp_path):
    """It is told once and not tried again, and the others end with it."""
    job = Job(slurm, tmp_path, "--model_dir=train.py/new")
    assert job.end()[0] == "FAILED", job.logs()
    log = job.log("worker-0")
    assert "--model_dir=train.py/new, which cannot be made (Not a dir" in log
    assert "started again" not in job.logs()
    assert "Traceback" not in job.logs()
