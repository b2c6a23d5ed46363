"""Cuts a sampler's endless stream into epochs (NumPy only)."""

import threading
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from tf_elastic.data import keyed_rng

# Indices handed over at a time: enough to make a hand-over cheap, and few
# enough to be nothing beside the images.
_BLOCK_INDICES = 1 << 16


class Sampler(Protocol):
    """What an epoch stream asks of a sampler."""

    step: int

    def draw(self) -> np.ndarray:
        """Draws one step, int64 [num_workers, batch_size]."""

    def skip(self, steps: int) -> None:
        """Moves on by `steps` steps."""

    def copy(self) -> "Sampler":
        """Returns an independent sampler that will draw the same steps."""


class EpochStream:
    """Calls give epochs, one after the other, of one sampler's stream.

    Call number e gives the steps from `e * steps_per_epoch` up to
    `(e + 1) * steps_per_epoch`, after the steps skipped at the beginning. That
    depends on nothing but e: an epoch that is left half-way, or is read ahead
    of its use, changes no other.

    With each image goes an augmentation code, uniform in [0, `num_codes`),
    drawn by a generator of key (seed, step).

    Args:
        sampler: The sampler, owned by the stream from now on.
        steps_per_epoch: Steps in an epoch, >= 1.
        num_codes: Number of augmentations to choose from, >= 1.
        seed: Non-negative int.
        first_image: Index of the sampler's image 0 in the data set.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        steps_per_epoch: int,
        num_codes: int,
        seed: int,
        first_image: int = 0,
    ) -> None:
        self._sampler = sampler
        self._steps_per_epoch = steps_per_epoch
        self._num_codes = num_codes
        self._seed = seed
        self._first_image = first_image
        self._lock = threading.Lock()

    def __call__(self) -> Iterator[np.ndarray]:
        """Starts the next epoch.

        Returns:
            An iterator over blocks of steps, int32 [steps, 2, images]: indices
            of images, then their augmentation codes; `images` is num_workers *
            batch_size, worker after worker.
        """
        with self._lock:
            sampler = self._sampler.copy()
            self._sampler.skip(self._steps_per_epoch)
        return self._blocks(sampler)

    def _step(self, sampler: Sampler) -> np.ndarray:
        """Draws one step, int32 [2, images]."""
        rng = keyed_rng.keyed_generator(
            self._seed, keyed_rng.Stream.AUGMENT, sampler.step
        )
        indices = self._first_image + sampler.draw().reshape(-1)
        codes = rng.integers(self._num_codes, size=indices.size)
        return np.stack([indices, codes]).astype(np.int32)

    def _blocks(self, sampler: Sampler) -> Iterator[np.ndarray]:
        left = self._steps_per_epoch
        while left > 0:
            first = self._step(sampler)
            size = min(left, max(_BLOCK_INDICES // first.shape[1], 1))
            rest = [self._step(sampler) for _ in range(size - 1)]
            yield np.stack([first, *rest])
            left -= size
