"""Runs several at a time, and tells how far they are."""

import concurrent.futures
import os
import time
from collections.abc import Sequence

from tf_elastic.program import console
from tf_elastic.program import run_folder
from tf_elastic.rehearse import results
from tf_elastic.rehearse import runs
from tf_elastic.rehearse.plan import Plan
from tf_elastic.rehearse.processes import TOO_LATE
from tf_elastic.rehearse.processes import Processes
from tf_elastic.rehearse.results import Results
from tf_elastic.rehearse.results import Row
from tf_elastic.rehearse.runs import Run

# How often it is told how far the runs are.
_EVERY_S = 60.0


class Rehearsal:
    """Trains what is not done yet.

    Args:
        plan: of it.
        out: its folder.
        rows: what has ended, added to.
        verdicts: of the plan's runs.
        processes: that train.
        with_events: whether each writes its events.
    """

    def __init__(
        self,
        plan: Plan,
        out: str,
        rows: Results,
        verdicts: Sequence[str],
        processes: Processes,
        with_events: bool,
    ) -> None:
        self._plan = plan
        self._out = out
        self._rows = rows
        self._processes = processes
        self._with_events = with_events
        self._varying = runs.varying(plan.runs)
        self._verdict_of = dict(
            zip((run.name for run in plan.runs), verdicts, strict=True)
        )
        self._done = 0
        self._took_s: list[float] = []

    def train(self, jobs: int) -> None:
        """Trains, several at a time; raises what `Ctrl-C` does."""
        left = [run for run in self._plan.runs if not self._collect(run)]
        if self._done:
            console.say(f"{self._done} of {len(self._plan.runs)} are done.")
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            running = {pool.submit(self._train, run): run for run in left}
            try:
                while running:
                    ended, _ = concurrent.futures.wait(
                        running,
                        _EVERY_S,
                        concurrent.futures.FIRST_COMPLETED,
                    )
                    for future in ended:
                        self._note(running.pop(future), *future.result())
                    if not ended:
                        self._tell_progress(list(running.values()), jobs)
            except BaseException:
                self._processes.end()
                pool.shutdown(cancel_futures=True)
                raise

    def _collect(self, run: Run) -> bool:
        """Whether a run is done; a row that is missing is made."""
        known = self._rows.row(run)
        is_done = self._rows.status(run) == results.DONE
        columns = map(results.seconds_name, self._plan.targets)
        if not is_done or not all(name in known for name in columns):
            row = results.row_of(run, self._out, self._plan.targets)
            if row is None:
                return False
            self._add(run, row)
        self._done += 1
        return True

    def _train(self, run: Run) -> tuple[int, float]:
        """In a thread: the exit status, and how long it took."""
        folder = results.folder_of(run, self._out)
        os.makedirs(folder, exist_ok=True)
        report = os.path.join(folder, results.REPORT)
        argv = [*runs.argv(run.flags), "--verbose=2", f"--report={report}"]
        argv.append(f"--model_dir={folder}")
        if self._with_events:
            argv.append(f"--events={os.path.join(folder, results.EVENTS)}")
        if os.path.exists(os.path.join(folder, run_folder.SETTINGS)):
            argv.append("--resume")
        log = os.path.join(folder, results.LOG)
        began = time.monotonic()
        status = self._processes.run(argv, log, self._plan.deadline_s)
        return status, time.monotonic() - began

    def _note(self, run: Run, status: int, seconds: float) -> None:
        row = None
        if status == 0:
            row = results.row_of(run, self._out, self._plan.targets)
        if row is None:
            what = results.LATE if status == TOO_LATE else results.FAILED
            row = {"status": what}
        self._add(run, row)
        self._done += 1
        self._took_s.append(seconds)
        console.say(
            f"[{self._done}/{len(self._plan.runs)}] "
            f"{run.label(self._varying)}: {self._told(run, row)} "
            f"({seconds:.0f} s)"
        )

    def _told(self, run: Run, row: Row) -> str:
        folder = results.folder_of(run, self._out)
        log = os.path.join(folder, results.LOG)
        if row["status"] == results.LATE:
            return (
                f"ended at the deadline of {self._plan.deadline_s:g} s; the "
                "same command goes on with it"
            )
        if row["status"] == results.FAILED:
            return f"failed; the end of {log} says why"
        return (
            f"error {float(row['final_error']):.2%} after "
            f"{float(row['virtual_seconds']):.4g} virtual s"
        )

    def _add(self, run: Run, row: Row) -> None:
        advice = {"advice": self._verdict_of[run.name]}
        self._rows.note(run, {**row, **advice})

    def _tell_progress(self, left: Sequence[Run], jobs: int) -> None:
        """A line on those that run."""
        told = []
        for run in left[:jobs]:
            had = len(results.errors_of(results.history_of(run, self._out)))
            told.append(
                f"{run.label(self._varying)}: epoch {had} of "
                f"{run.settings['epochs']}"
            )
        rest = ""
        if self._took_s:
            each = sum(self._took_s) / len(self._took_s)
            rest = f"; about {each * len(left) / jobs / 60:.0f} minutes left"
        console.say(f"... {'; '.join(told)}{rest}")
