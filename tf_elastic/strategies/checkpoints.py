"""What a `tf.train.Checkpoint` has of the workers that are to go on from it."""

import warnings
from collections.abc import Sequence

from tf_elastic import compat
from tf_elastic.optimizers.worker_state import CheckpointWarning

VALUE_KEY = "VARIABLE_VALUE"
MASTER_KEY = "MASTER"  # of the center
_last_told: int | None = None  # the restore that was warned of


def worker_keys(num_workers: int) -> list[str]:
    """By which names the workers' values of a variable are saved."""
    return [f"WORKER_{i}" for i in range(num_workers)]


def keys_to_restore(workers: Sequence[str], master: Sequence[str]) -> list[str]:
    """What is to be saved, or restored, beside the value: all or nothing.

    Args:
        workers: by which names the workers' values are saved.
        master: likewise the center's master, if there is one.

    Warns:
        CheckpointWarning: a checkpoint is being restored that is of another
            number of workers, or of a model that had none; once for all of
            its variables.
    """
    restored = compat.restored_from()
    if restored is None or restored.names == {VALUE_KEY, *workers, *master}:
        return [*workers, *master]
    global _last_told
    if restored.restore != _last_told:
        _last_told = restored.restore
        saved = len(restored.names - {VALUE_KEY, MASTER_KEY})
        warnings.warn(
            f"The checkpoint holds {saved or 'no'} workers, the strategy has "
            f"{len(workers)}: all workers start from the center.",
            CheckpointWarning,
            stacklevel=2,
        )
    return []
