"""Elastic training on many processes and machines."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from tf_elastic import theory
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import of_groups
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import codec
from tf_elastic.cluster.worker import exchanger
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.reliable_fanout import Counts
from tf_elastic.core import lateness
from tf_elastic.strategies.device_tree import DeviceTreeExtended
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.elastic_strategy import check_devices
from tf_elastic.strategies.multi_worker_extended import (
    ElasticMultiWorkerExtended,
)
from tf_elastic.strategies.worker_group import Alone
from tf_elastic.strategies.worker_group import WorkerGroup
from tf_elastic.strategies.worker_group import check_groups

# What the devices of a process may be to each other.
INSIDE = ("mirrored", "elastic")


class ElasticMultiWorkerStrategy(ElasticStrategy):
    r"""Trains one model on many processes that do not wait for each other.

    Each process runs the same script and is one elastic worker. It takes its
    own steps on its own data; every `communication_period` steps (an argument
    of the optimizer) it exchanges with the center, which lives on parameter
    servers (job `ps`, started by `python -m tf_elastic.cluster.ps`).
    `evaluate`, `predict`, `validation_data`, `save` and all callbacks see the
    center. Stock `fit` is all there is to call.

    The devices of a process are mirrored inside it (but see `inside`): its
    gradients are summed over them at each step, so for Keras this is a local
    strategy, and the batch size is that of one worker.

    Any process may die. The others go on; a worker that is started again
    begins from the center, and its clock goes on. While a center server is
    away workers train on without it.

    A worker begins at the center as it is when its first step does, after
    that step was traced, and brings nothing before it has taken one. What the
    chief's callbacks decide, to stop or to train at another learning rate,
    reaches all workers with their next exchange.

    Args:
        cluster_resolver: where the processes are: any resolver of
            `tf.distribute.cluster_resolver`, or None for the environment
            variable `TF_CONFIG`, with the jobs `worker` and `ps`, optionally
            `chief` and `evaluator`.
        protocol: when parameters leave and what comes back when:
            `"overlapped"`: they leave at the start of a period, the
            difference comes back and is applied at its end, and training
            goes on meanwhile (section 2.2);
            `"blocking"`: read, difference, push, while training stands still
            (Algorithms 1 and 2);
            `"synchronous"`: all workers meet (eqs. 2.3, 2.4);
            None (default): the optimizer's own, the first in its row of
            docs/methods.md: `"overlapped"` for the elastic ones.
        compression: of what travels: `"none"` (default), `"bfloat16"` or
            `"int8"`, with error feedback.
        devices: of this process, such as `["GPU:0", "GPU:1"]`; None for all
            its GPUs, or the CPU.
        timeouts: how long to wait for what; None for `Timeouts()`.
        security: token and certificates; None for the environment variables
            `TF_ELASTIC_*`.
        closing: whether there is one exchange more at the end of `fit`, if a
            step was taken since the last one. (What is on its way is waited
            for in any case.)
        max_lag: how many turns of the other workers one may miss between two
            of its exchanges; what it brings after that is left out, and it
            goes on from the center (see `core.lateness`). None for no bound.
        events: a file to append to what happens, one JSON object a line (see
            `timeline.Event`); processes of one host may share it. None for
            the environment variable `TF_ELASTIC_EVENTS`, or no file.
        inside: what the devices of this process are to each other:
            `"mirrored"` (default): one worker, as above;
            `"elastic"`: workers of their own. They exchange with a center
            that only this process has, the local one, each
            `communication_period` steps; and that one, as a worker, with the
            cluster's each `outer_period` steps. So the process is an inner
            node of a tree (chapter 6), and inside alpha = beta / (d + 1),
            of d devices. The batch is shared out among them. For methods
            whose rule works both ways: elastic averaging.
        order: of the devices inside, if they are elastic; see
            `ElasticMirroredStrategy`.
        outer_period: local steps between two exchanges of the local center
            with the cluster's, a multiple of `communication_period`. None for
            10 times that.
        workers_per_group: how many processes are one elastic worker together:
            workers 0 to n - 1 of `TF_CONFIG`, the next n, and so on. Those of
            a group take each step together, as under
            `MultiWorkerMirroredStrategy`, and their first exchanges for all.
            Each starts a TensorFlow server at its own address.
        peer_timeout_s: how long a process of a group may be silent, in
            seconds, before the training of the others ends with an error.

    Raises:
        ClusterConfigurationError: `TF_CONFIG` is missing or wrong.
        ValueError: an argument is not one of its choices.
        OSError: the file of events cannot be opened.

    Example:

    ```python
    strategy = te.strategies.ElasticMultiWorkerStrategy()
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(
            te.optimizers.EAMSGD(0.005, communication_period=10),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(train, epochs=10, steps_per_epoch=390)
    if strategy.is_chief:
        model.save("center.keras")
    ```

    If the center lags behind the workers, lower `communication_period`, or
    compress what travels.

    Reference:
        Zhang (2016), sections 2.2 and 2.3, Algorithms 1 and 2.
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        protocol: str | None = None,
        compression: str = "none",
        devices: Sequence[str] | None = None,
        timeouts: Timeouts | None = None,
        security: Security | None = None,
        closing: bool = True,
        max_lag: float | None = lateness.DEFAULT_MAX_LAG,
        events: str | None = None,
        inside: str = "mirrored",
        order: str | None = None,
        outer_period: int | None = None,
        workers_per_group: int = 1,
        peer_timeout_s: float = 60.0,
    ) -> None:
        lateness.check_max_lag(max_lag)
        _check_inside(inside, order, outer_period)
        if protocol is not None and protocol not in exchanger.PROTOCOLS:
            raise ValueError(
                f"`protocol` must be one of {exchanger.PROTOCOLS}, or None. "
                f"Received: protocol={protocol!r}."
            )
        if compression not in codec.CODECS:
            raise ValueError(
                f"`compression` must be one of {codec.CODECS}. "
                f"Received: compression={compression!r}."
            )
        if compression != "none" and protocol not in (None, "overlapped"):
            raise ValueError(
                '`compression` needs `protocol="overlapped"`, in which the '
                "center computes the difference. Received: "
                f"compression={compression!r}, protocol={protocol!r}."
            )
        check_devices(devices)
        self.configuration = configuration_of(
            cluster_resolver, "serves the center"
        )
        group = Alone()
        if workers_per_group != 1:
            check_groups(workers_per_group, inside, devices)
            alone = self.configuration
            self.configuration = of_groups(alone, workers_per_group)
            if alone.worker_index is not None:
                waits = timeouts or Timeouts()
                group = WorkerGroup(
                    alone,
                    workers_per_group,
                    peer_timeout_s,
                    waits.group_s,
                    waits.join_s,
                )
        settings = {
            "group": group,
            "protocol": protocol,
            "compression": compression,
            "devices": devices,
            "timeouts": timeouts,
            "security": security or Security.from_environment(),
            "closing": closing,
            "max_lag": max_lag,
            "events": events,
        }
        super().__init__(
            DeviceTreeExtended(
                self, self.configuration, order, outer_period, **settings
            )
            if inside == "elastic"
            else ElasticMultiWorkerExtended(
                self, self.configuration, **settings
            )
        )

    @property
    def worker_index(self) -> int | None:
        """Which worker of `TF_CONFIG` this is; None if it only looks on."""
        group, index = self.extended.group, self.configuration.worker_index
        return None if index is None else index * group.size + group.member

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.extended.is_chief

    def run(
        self,
        fn: Callable,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
    ) -> Any:
        """Runs `fn` once on each device; see `ElasticStrategy.run`."""
        self.extended.steps_of(getattr(fn, "__self__", None))
        return super().run(fn, args, kwargs, options)

    def samples_trained(self) -> tuple[int, int]:
        """Samples trained on by (all workers, this worker) so far.

        The first is known to within an exchange, or a second.
        """
        return self.extended.samples_trained()

    def center_status(self, optimizer: int = 0) -> list[dict[str, Any] | None]:
        """What each center server says of itself; None for one that is away.

        Among it are "version", "num_workers", "members" and "staleness":
        (number, worker, versions, milliseconds) of the newest pushes.

        Args:
            optimizer: which one's center, where several train one model;
                from 0, in the order in which they were built.
        """
        return self.extended.sessions[optimizer].client.status()

    def exchange_counts(self) -> Counts:
        """What happened between this worker and the center so far.

        Where several optimizers train one model, that of all of them.
        """
        return Counts.of_all(
            [session.client.counts for session in self.extended.sessions]
        )

    def leave(self) -> None:
        """Gives this worker's slot back in the middle of a run.

        The others' alpha = beta / p follows. (At the end of the process the
        slot is given back by itself, as finished: then it does not, so that
        the last ones are not pulled harder.) Training afterwards is refused.
        """
        self.extended.stop(finished=False)


def configuration_of(
    cluster_resolver: Any, instead: str
) -> ClusterConfiguration:
    """The cluster of a process that trains, or looks on.

    Args:
        cluster_resolver: see `ElasticMultiWorkerStrategy`.
        instead: what a process of the job ps does.

    Raises:
        ClusterConfigurationError: the description is missing or wrong.
        ValueError: this process is one of the job ps.
    """
    if cluster_resolver is None:
        found = ClusterConfiguration.from_tf_config()
    else:
        found = ClusterConfiguration.from_resolver(cluster_resolver)
    if found.role == "ps":
        raise ValueError(
            f"A process of the job ps {instead} and trains nothing. "
            f"Received: TF_CONFIG of {found.task}. Start it by `python -m "
            "tf_elastic.cluster.ps`."
        )
    return found


def _check_inside(
    inside: str, order: str | None, outer_period: int | None
) -> None:
    if inside not in INSIDE:
        raise ValueError(
            f"`inside` must be one of {INSIDE}. Received: inside={inside!r}."
        )
    if order is not None and order not in theory.ORDERS:
        raise ValueError(
            f"`order` must be one of {theory.ORDERS}, or None. "
            f"Received: order={order!r}."
        )
    if outer_period is not None and (
        type(outer_period) is not int or outer_period < 1
    ):
        raise ValueError(
            "`outer_period` must be an integer >= 1, or None. "
            f"Received: outer_period={outer_period!r}."
        )
    given = [
        f"{name}={value!r}"
        for name, value in (("order", order), ("outer_period", outer_period))
        if value is not None
    ]
    if given and inside != "elastic":
        raise ValueError(
            "`order` and `outer_period` are of devices that are workers. "
            f"Received: {', '.join(given)} with inside={inside!r}. Leave "
            'them out, or say `inside="elastic"`.'
        )
