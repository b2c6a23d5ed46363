"""Variables that random numbers are drawn from."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic.strategies.stores import TensorLike
from tf_elastic.strategies.worker_variable import WorkerVariable


class SeedVariable(WorkerVariable):
    """The state of a random generator, different on every worker.

    The first worker draws what it would draw alone; the others fold their
    number into the seed, so that dropout masks differ among workers.
    """

    def resume(
        self,
        center: np.ndarray,
        workers: np.ndarray,
        followers: Sequence[
            tuple[Callable[[np.ndarray], object], np.ndarray]
        ] = (),
    ) -> None:
        """Sets the workers as a file has them: no layer loads a seed."""
        del center, followers
        self.assign_worker_values(workers)

    def _update_cross_replica(
        self, update_fn: Callable[..., Any], value: TensorLike, **kwargs: Any
    ) -> Any:
        super()._update_cross_replica(update_fn, value, **kwargs)
        self.diversify()
        return self

    def diversify(self) -> None:
        """Derives the other workers' seeds from the first one's."""
        first = self.distribute_strategy.extended.first_seed_number()
        seed_of_all = self._values[0].read_value()
        for worker in range(self.store.num_workers):
            number = first + worker
            if number > 0:
                seed = tf.random.experimental.stateless_fold_in(
                    seed_of_all, number
                )
                self.store.assign(worker, tf.cast(seed, self.dtype))
