"""Uniform sampling with replacement, as in chapter 6 (NumPy only)."""

import copy

import numpy as np

from tf_elastic.data import keyed_rng


class UniformSampler:
    """Draws each image uniformly from the data set, with replacement.

    "Each data point is sampled uniformly random with replacement (different
    to what we did in Section 4.1)": the sampling of the CIFAR-lowrank
    experiments. Step n has the generator of key (seed, n), so to skip is to
    count.

    Attributes:
        step: Steps drawn or skipped so far.

    Args:
        num_examples: Images in the data set, >= 1.
        batch_size: Images in a worker's minibatch, >= 1.
        num_workers: p, >= 1.
        seed: Non-negative int.

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        section 6.1.2.
    """

    def __init__(
        self, num_examples: int, batch_size: int, num_workers: int, *, seed: int
    ) -> None:
        self.step = 0
        self._num_examples = num_examples
        self._shape = (num_workers, batch_size)
        self._seed = seed

    def draw(self) -> np.ndarray:
        """Draws one step.

        Returns:
            Indices of images, int64 [num_workers, batch_size]: row i is the
            minibatch of worker i.
        """
        rng = keyed_rng.keyed_generator(
            self._seed, keyed_rng.Stream.UNIFORM, self.step
        )
        self.step += 1
        return rng.integers(self._num_examples, size=self._shape)

    def skip(self, steps: int) -> None:
        """Moves on as if `steps` steps had been drawn, without drawing them.

        Args:
            steps: Number of steps, >= 0.
        """
        self.step += steps

    def copy(self) -> "UniformSampler":
        """Returns an independent sampler that will draw the same steps."""
        return copy.copy(self)
