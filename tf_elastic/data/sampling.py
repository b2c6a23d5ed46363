"""Which images whose minibatches are made of: the sampler that is asked for."""

from typing import NamedTuple

from tf_elastic.data import epoch_stream
from tf_elastic.data import loader_sampler
from tf_elastic.data import turns_sampler
from tf_elastic.data import uniform_sampler

SAMPLINGS = ("loaders", "parts", "uniform")


class Sampling(NamedTuple):
    """Arguments of `load` that say what is trained on, checked."""

    batch_size: int
    num_workers: int
    sampling: str | None
    seed: int
    steps_per_epoch: int | None
    skip_steps: int
    num_loaders: int
    chunk_size: int
    in_turn: bool
    shard: tuple[int, int]

    @property
    def global_batch_size(self) -> int:
        """Images in a batch that training is given."""
        return self.batch_size * (1 if self.in_turn else self.num_workers)

    def stream(
        self, num_examples: int, default: str, num_codes: int
    ) -> tuple[epoch_stream.EpochStream, int]:
        """Makes the stream of steps.

        Args:
            num_examples: Training images.
            default: What `sampling` is if it is not given.
            num_codes: Augmentations to choose from.

        Returns:
            The stream, and how many steps an epoch has.

        Raises:
            ValueError: If there are too few images.
        """
        number, count = self.shard
        first = num_examples * number // count
        num_examples = num_examples * (number + 1) // count - first
        if self.batch_size > num_examples:
            of_shard = "" if count == 1 else f" of shard {number} of {count}"
            raise ValueError(
                "`batch_size` must not exceed the number of training images"
                f"{of_shard}, {num_examples}. Received: "
                f"batch_size={self.batch_size}. Pass a smaller one."
            )
        sampler = self._sampler(num_examples, self.sampling or default)
        if self.in_turn:
            sampler = turns_sampler.TurnsSampler(sampler, self.num_workers)
        sampler.skip(self.skip_steps)
        steps = self.steps_per_epoch or max(
            num_examples // self.global_batch_size, 1
        )
        stream = epoch_stream.EpochStream(
            sampler,
            steps_per_epoch=steps,
            num_codes=num_codes,
            seed=self.seed,
            first_image=first,
        )
        return stream, steps

    def _sampler(self, num_examples: int, kind: str) -> epoch_stream.Sampler:
        common = num_examples, self.batch_size, self.num_workers
        if kind == "uniform":
            return uniform_sampler.UniformSampler(*common, seed=self.seed)
        smallest = num_examples // self.num_loaders
        if kind == "parts" and smallest < self.batch_size:
            if self.sampling == "parts":
                raise ValueError(
                    "With `sampling='parts'` each loader's part of the data "
                    "must have a minibatch at least. Received: num_loaders="
                    f"{self.num_loaders}, batch_size={self.batch_size}, with "
                    f"{num_examples} images. Pass fewer loaders, or "
                    "sampling='loaders'."
                )
            kind = "loaders"
        return loader_sampler.LoaderSampler(
            *common,
            num_loaders=self.num_loaders,
            chunk_size=self.chunk_size,
            in_parts=kind == "parts",
            seed=self.seed,
        )
