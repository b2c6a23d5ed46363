"""What is different about a run in which workers share the epochs."""

from typing import TYPE_CHECKING

from tf_elastic.program import inside_checks
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.callbacks import SharedEpochs
    from tf_elastic.strategies import ElasticMultiWorkerStrategy


def _samples_per_epoch(settings: Settings) -> int:
    """Of all workers together."""
    return int(
        settings["steps_per_epoch"]
        * settings["batch_size"]
        * settings["workers"]
        * inside_checks.workers_of_process(settings)
    )


def epochs_done(
    settings: Settings, strategy: "ElasticMultiWorkerStrategy"
) -> int:
    """The epochs that the cluster has had, of those that were asked for.

    A worker that is started again, or a cluster that goes on from its center
    servers' snapshots, has the rest before it. Waits for the center servers.
    """
    strategy.extended.hear_of_others()
    samples, _ = strategy.samples_trained()
    [samples] = strategy.extended.group.agreed([samples])
    return int(min(samples // _samples_per_epoch(settings), settings["epochs"]))


def shared_epochs(settings: Settings) -> "SharedEpochs":
    """The callback by which all workers end an epoch together."""
    from tf_elastic.callbacks import SharedEpochs

    return SharedEpochs(_samples_per_epoch(settings))
