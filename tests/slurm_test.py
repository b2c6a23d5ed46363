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

    def __init__(self, slurm, folder, *args, **variables):
        if not (folder / "train.py").exists():
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
            **variables,
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
            lambda: (
                not any(
                    self._slurm.task(role, index)
                    for role in ("worker", "ps")
                    for index in (0, 1)
                )
            )
        )
        return told["JobState"], told["ExitCode"]


def rows(folder):
    """The epochs that the chief has written down."""
    text = _text(folder / "history.csv")
    return [int(row["epoch"]) for row in csv.DictReader(text.splitlines())]


def test_a_job_whose_tasks_are_killed(slurm, tmp_path):
    """The documented command; a worker, a center and the chief are killed.

    Then it is cancelled, and another job goes on to the end.
    """
    flags = (
        "--steps_per_epoch=40",
        "--batch_size=32",
        "--momentum=0.5",
        "--beta=0.5",
        "--seed=1",
        "--model_dir=runs/new",
        "--report=runs/new/report.json",
    )
    new = tmp_path / "runs" / "new"
    job = Job(slurm, tmp_path, "--epochs=100000", *flags)
    joined = "worker {} has joined (incarnation {})"
    # Made by the chief, since nobody else does.
    job.until(lambda: rows(new))
    job.until(lambda: joined.format(1, 1) in job.log("ps-1"))
    job.kill("worker", 1)
    job.until(lambda: any(job.path("snapshots/ps-0").glob("*.snapshot")))
    job.kill("ps", 0)
    job.until(lambda: joined.format(1, 2) in job.log("ps-1"))
    job.until(lambda: "goes on at version" in job.log("ps-0"))
    before = len(rows(new))
    job.kill("worker", 0)
    job.until(lambda: joined.format(0, 2) in job.log("ps-1"))
    job.until(lambda: len(rows(new)) > before)
    slurm.run("scancel", job.number)
    assert job.end()[0] == "CANCELLED", job.logs()
    for task in ("worker 0", "worker 1", "ps 0"):
        text = job.log(task.replace(" ", "-"))
        assert (
            f"The {task} ended with status 137. It is started again, restart "
            "1 of at most 10.\n" in text
        )
        assert text.count("It is started again") == 1
    assert "started again" not in job.log("ps-1")
    assert "Traceback" not in job.logs()
    # Told to end, they take a last snapshot.
    for name in ("ps-0", "ps-1"):
        assert "ends at version" in job.log(name)
    assert rows(new) == sorted(set(rows(new))) and rows(new)[0] == 0

    epochs = rows(new)[-1] + 4
    following = Job(
        slurm,
        tmp_path,
        f"--epochs={epochs}",
        *flags,
        SNAPSHOTS=str(job.path("snapshots")),
    )
    assert following.end() == ("COMPLETED", "0:0"), following.logs()
    assert "goes on at version" in following.log("ps-0")
    assert "Traceback" not in following.logs()
    assert (new / "model.keras").stat().st_size > 0
    report = json.loads(_text(new / "report.json"))
    assert report["center"]["test_error"] < 0.35


def test_a_job_whose_chief_cannot_save(slurm, tmp_path):
    """It is told once and not tried again, and the others end with it."""
    job = Job(slurm, tmp_path, "--model_dir=train.py/new")
    assert job.end()[0] == "FAILED", job.logs()
    log = job.log("worker-0")
    assert "--model_dir=train.py/new, which cannot be made (Not a dir" in log
    assert "started again" not in job.logs()
    assert "Traceback" not in job.logs()
