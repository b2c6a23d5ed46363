"""The k data loaders of the thesis: cyclic readers of consecutive chunks."""

import copy
from typing import NamedTuple

from tf_elastic.data import keyed_rng


class Chunk(NamedTuple):
    """Consecutive images of the data set, `start <= index < start + size`."""

    start: int  # index of the first image.
    size: int  # number of images, a whole number of minibatches.


def chunk_length(
    num_examples: int, batch_size: int, num_loaders: int, chunk_size: int
) -> int:
    """Returns the number of images that a loader sends at a time.

    The asked `chunk_size`, but not more than `num_examples / num_loaders`, so
    that the chunks of all loaders together are at most about one pass over a
    small data set; then rounded down to whole minibatches, at least one.

    Args:
        num_examples: Images in the data set, >= `batch_size`.
        batch_size: Images in a minibatch, >= 1.
        num_loaders: The thesis' k, >= 1.
        chunk_size: The thesis' c, in images, >= 1.

    Returns:
        Images in a chunk, a multiple of `batch_size`.
    """
    wanted = min(chunk_size, num_examples // num_loaders)
    return max(wanted // batch_size, 1) * batch_size


class Loaders:
    """Loaders that each cycle through the whole data set.

    "Each data loader cycles through the data [...], sending consecutive
    chunks. When the data loader reaches the end [...], it selects the address
    uniformly at random from the interval [0, s], where s = (number of images
    modulo mini-batch size), and uses this address to start cycling again."
    The last chunk of a pass is what is left of it, so a pass covers all but s
    images.

    The thesis does not say where loaders begin. Here loader j of k begins
    j/k of the way through the data set, at a whole number of minibatches plus
    a random offset in [0, s], so that the first pools hold different images.

    In parts, as the thesis has it for ImageNet, loader j cycles through the
    j-th of k equal parts of the data set only, and s is that of the part.

    Attributes:
        positions: List of `num_loaders` ints, the image that each loader
            sends next.

    Args:
        num_examples: Images in the data set, >= `batch_size`.
        batch_size: Images in a minibatch, >= 1.
        num_loaders: The thesis' k, >= 1.
        chunk_size: Images in a chunk, a multiple of `batch_size`.
        seed: Non-negative int.
        in_parts: Whether each has a part of its own, of `batch_size` images
            at least.

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 4.1, "Data prefetching".
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        num_loaders: int,
        chunk_size: int,
        seed: int,
        in_parts: bool = False,
    ) -> None:
        self._batch_size = batch_size
        self._chunk_size = chunk_size
        self._rng = keyed_rng.keyed_generator(seed, keyed_rng.Stream.LOADERS)
        if in_parts:
            ends = [j * num_examples // num_loaders for j in range(num_loaders)]
            self._begins, self._ends = ends, [*ends[1:], num_examples]
            starts = self._begins
        else:
            self._begins = [0] * num_loaders
            self._ends = [num_examples] * num_loaders
            minibatches = num_examples // batch_size
            starts = [
                j * minibatches // num_loaders * batch_size
                for j in range(num_loaders)
            ]
        self.positions = [
            start + self._offset(j) for j, start in enumerate(starts)
        ]

    def _offset(self, loader: int) -> int:
        """Draws a place to start a pass, uniform in [0, s]."""
        remainder = (
            self._ends[loader] - self._begins[loader]
        ) % self._batch_size
        return int(self._rng.integers(remainder + 1))

    def send(self, loader: int) -> Chunk:
        """Returns the next chunk of one loader.

        Args:
            loader: Number of the loader, from 0.

        Returns:
            The chunk, of one minibatch at least.
        """
        start, end = self.positions[loader], self._ends[loader]
        if end - start < self._batch_size:
            start = self._begins[loader] + self._offset(loader)
        left = end - start
        whole = left - left % self._batch_size
        chunk = Chunk(start, min(self._chunk_size, whole))
        self.positions[loader] = start + chunk.size
        return chunk

    def serve(self, num_workers: int) -> list[list[Chunk]]:
        """Returns one chunk of every loader for each of some workers.

        A loader serves "the first worker who requests the data"; which one
        that is depends on timing on a real machine. Here it is drawn at random
        for each loader, so that no worker is bound to one part of the data.

        Args:
            num_workers: How many workers ask at the same time.

        Returns:
            For each worker, `num_loaders` chunks in the order of the loaders.
        """
        chunks: list[list[Chunk]] = [[] for _ in range(num_workers)]
        for loader in range(len(self.positions)):
            for worker in self._rng.permutation(num_workers):
                chunks[worker].append(self.send(loader))
        return chunks

    def copy(self) -> "Loaders":
        """Returns an independent copy that will send the same chunks."""
        return copy.deepcopy(self)
