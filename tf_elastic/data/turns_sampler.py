"""Minibatches of one worker after another (NumPy only)."""

import copy

import numpy as np

from tf_elastic.data.epoch_stream import Sampler


class TurnsSampler:
    """Draws what another sampler draws for all workers, worker by worker.

    A step is then one worker's: 0, 1, ..., p - 1, and 0 again.

    Attributes:
        step: Minibatches drawn or skipped so far.

    Args:
        of_all: The other sampler, owned by this one from now on.
        num_workers: p, its own.
    """

    def __init__(self, of_all: Sampler, num_workers: int) -> None:
        self.step = 0
        self._of_all = of_all
        self._num_workers = num_workers
        self._drawn: np.ndarray | None = None  # what the others are yet to get

    def draw(self) -> np.ndarray:
        """Draws the minibatch of the next worker, int64 [1, batch_size]."""
        worker = self.step % self._num_workers
        if self._drawn is None:
            self._drawn = self._of_all.draw()
        row = self._drawn[worker : worker + 1]
        self.step += 1
        if worker == self._num_workers - 1:
            self._drawn = None
        return row

    def skip(self, steps: int) -> None:
        """Moves on as if `steps` minibatches had been drawn.

        Args:
            steps: Number of minibatches, >= 0.
        """
        p = self._num_workers
        rounds = (self.step + steps) // p - self.step // p
        self.step += steps
        if not rounds:
            if steps and self._drawn is None:
                self._drawn = self._of_all.draw()
            return
        self._of_all.skip(rounds - (self._drawn is not None))
        self._drawn = self._of_all.draw() if self.step % p else None

    def copy(self) -> "TurnsSampler":
        """Returns an independent sampler that will draw the same steps."""
        twin = copy.copy(self)
        twin._of_all = self._of_all.copy()
        return twin
