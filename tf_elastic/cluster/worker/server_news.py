"""What a worker has heard from one center server."""

from typing import Any

from absl import logging

from tf_elastic.cluster.center import bootstrap_election
from tf_elastic.cluster.instruction import Instruction


class ServerNews:
    """What one center server has last told, of itself and of all workers."""

    def __init__(self) -> None:
        self.version = bootstrap_election.NEVER  # the newest that was heard of
        self.num_workers: int | None = None  # None: not told, or it is away
        self.samples_of_others = 0  # and of this worker's earlier processes
        self.instruction = Instruction()
        self._refusals: int | None = None  # of others, that were told of

    def note(self, told: dict[str, Any]) -> None:
        """Takes what an answer tells of the server and of all workers."""
        if told["ready"]:  # An empty center has no version.
            self.version = told["version"]
        if self._refusals is not None and told["refusals"] > self._refusals:
            logging.warning("%s", told["last_refusal"])
        self._refusals = told["refusals"]
        self.num_workers = told["num_workers"]
        self.note_workers(told)

    def note_workers(self, told: dict[str, Any]) -> None:
        """Takes what an answer tells of all workers."""
        if "own_samples" in told:
            # One that has begun anew knows of fewer.
            self.samples_of_others = max(
                self.samples_of_others,
                told["total_samples"] - told["own_samples"],
            )
        heard = Instruction.from_json(told.get("instruction"))
        if heard.number > self.instruction.number:
            self.instruction = heard
