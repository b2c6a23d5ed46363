"""The thesis' sampling of one data set by workers in parallel (NumPy only)."""

import copy

import numpy as np

from tf_elastic.data import keyed_rng
from tf_elastic.data import loaders


class LoaderSampler:
    """Draws every worker's minibatches through k shared loaders.

    A worker asks k different loaders for a chunk each, shuffles what it got
    (its pool), cuts it into minibatches, and asks again when it has used them
    all. So every worker draws from the whole data set, and no two workers
    follow the same order.

    The pool of worker i numbered n is shuffled by a generator whose key is
    (seed, i, n). To skip steps is then only to count minibatches and move the
    loaders: nothing that is skipped is shuffled.

    Note that a pass starts in [0, s] (see `Loaders`): with s > 0 the first
    and last s images are drawn less often than the others, image i < s in
    (i + 1) / (s + 1) of the passes. That is the thesis' scheme.

    Attributes:
        step: Steps drawn or skipped so far.

    Args:
        num_examples: Images in the data set, >= `batch_size`.
        batch_size: Images in a worker's minibatch, >= 1.
        num_workers: p, >= 1.
        num_loaders: k, >= 1. The thesis' is 8.
        chunk_size: c, in images. The thesis' is 512 for CIFAR. Made smaller
            for a small data set, see `chunk_length`.
        seed: Non-negative int.
        in_parts: Whether each loader has a part of the data set of its own.

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 4.1, "Data prefetching".
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        num_workers: int,
        *,
        num_loaders: int,
        chunk_size: int,
        seed: int,
        in_parts: bool = False,
    ) -> None:
        self.step = 0
        self._batch_size = batch_size
        self._seed = seed
        self._loaders = loaders.Loaders(
            num_examples,
            batch_size,
            num_loaders=num_loaders,
            chunk_size=loaders.chunk_length(
                num_examples, batch_size, num_loaders, chunk_size
            ),
            seed=seed,
            in_parts=in_parts,
        )
        # The chunks of each worker's pool, the pool's number (from 0), the
        # minibatches of it not yet used, and its shuffled indices once asked.
        self._chunks: list[list[loaders.Chunk]] = [
            [] for _ in range(num_workers)
        ]
        self._numbers = np.full(num_workers, -1)
        self._left = np.zeros(num_workers, np.int64)
        self._shuffled: list[np.ndarray | None] = [None] * num_workers

    def _refill(self) -> None:
        """Gives a new pool to each worker that has used its own up."""
        empty = np.flatnonzero(self._left == 0)
        if not empty.size:
            return
        served = self._loaders.serve(empty.size)
        for worker, chunks in zip(empty, served, strict=True):
            self._chunks[worker] = chunks
            self._numbers[worker] += 1
            images = sum(chunk.size for chunk in chunks)
            self._left[worker] = images // self._batch_size
            self._shuffled[worker] = None

    def _pool(self, worker: int) -> np.ndarray:
        """Returns the worker's shuffled pool, int64 [images]."""
        pool = self._shuffled[worker]
        if pool is None:
            pool = np.concatenate(
                [
                    np.arange(c.start, c.start + c.size)
                    for c in self._chunks[worker]
                ]
            )
            keyed_rng.keyed_generator(
                self._seed,
                keyed_rng.Stream.POOL,
                worker,
                int(self._numbers[worker]),
            ).shuffle(pool)
            self._shuffled[worker] = pool
        return pool

    def draw(self) -> np.ndarray:
        """Draws one step.

        Returns:
            Indices of images, int64 [num_workers, batch_size]: row i is the
            minibatch of worker i.
        """
        self._refill()
        rows = []
        for worker, left in enumerate(self._left):
            pool = self._pool(worker)
            first = pool.size - left * self._batch_size
            rows.append(pool[first : first + self._batch_size])
        self._left -= 1
        self.step += 1
        return np.stack(rows)

    def skip(self, steps: int) -> None:
        """Moves on as if `steps` steps had been drawn, without drawing them.

        Args:
            steps: Number of steps, >= 0.
        """
        while steps > 0:
            self._refill()
            now = min(steps, int(self._left.min()))
            self._left -= now
            self.step += now
            steps -= now

    def copy(self) -> "LoaderSampler":
        """Returns an independent sampler that will draw the same steps."""
        twin = copy.copy(self)
        twin._loaders = self._loaders.copy()
        twin._chunks = list(self._chunks)
        twin._numbers = self._numbers.copy()
        twin._left = self._left.copy()
        twin._shuffled = list(self._shuffled)
        return twin
