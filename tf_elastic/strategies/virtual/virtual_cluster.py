"""A cluster of any size, rehearsed on one device in virtual time."""

import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from absl import logging

from tf_elastic.core import one_way
from tf_elastic.core.topology import ONE_WAY
from tf_elastic.core.topology import SYNCHRONOUS
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.strategies.elastic_strategy import ElasticStrategy
from tf_elastic.strategies.virtual.turns import Timeline
from tf_elastic.strategies.virtual.virtual_extended import (
    VirtualClusterExtended,
)
from tf_elastic.timeline import wanted_tree
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.event_file import EventFile
from tf_elastic.timeline.virtual import presets
from tf_elastic.timeline.virtual.engine import VirtualTimeline
from tf_elastic.timeline.virtual.policies import Policy
from tf_elastic.timeline.virtual.timing import Timing
from tf_elastic.timeline.virtual.totals import Totals
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline
from tf_elastic.timeline.virtual.workload import Workload
from tf_elastic.timeline.wanted_tree import WantedTree

# One that makes the timeline of what an optimizer exchanges, for p workers.
MakeTimeline = Callable[[Workload, int], Timeline]


class VirtualClusterStrategy(ElasticStrategy):
    r"""Trains as many workers as you like would, on one device.

    Each training step of `fit` is one local step of the worker whose turn it
    is in *virtual time*: speeds, stragglers, links, the center's queue,
    failures and protocol are those that you choose. What is computed is what
    a cluster with these times would compute, with the same rules; the same
    seeds give the same, to the bit. The center is what `evaluate`, `predict`,
    `save` and callbacks see, as everywhere.

    Any data serves all workers, one batch for each step. For data of each
    worker's own use `distribute_datasets_from_function`, as in a cluster: the
    function is called for each worker, with its number as
    `context.input_pipeline_id`.

    `batch_size` is a worker's, and `steps_per_epoch` counts the local steps of
    all workers together.

    Args:
        num_workers: p, with those that come late.
        timing: a `tf_elastic.timeline.virtual.Timing`; the name of one, such
            as "thesis-cifar", see `timeline.virtual.presets`; or a
            function of (workload, p) that makes a timeline, such as a
            recorded one. None (default) for equal workers that take a second
            for a step, and exchanges that take no time.
        protocol: "overlapped", "blocking" or "synchronous": how workers
            exchange, as of `ElasticMultiWorkerStrategy`. None (default) for
            the optimizer's own, the first in its row of docs/methods.md.
        seed: of all that is drawn of times and failures, an integer >= 0.
        max_lag: workers that come too late do not move the center: see
            `ElasticMultiWorkerStrategy`. None (default) for no bound.
        quorum: of a synchronous round, how many messages end it; the others'
            are left out. None (default) for all that are present.
        max_staleness: a message so stale is left out. None for no bound. Not of
            ADMM, whose center is of all parts, however late they come.
        policy: which exchanges take place, by what is seen of the workers,
            such as `timeline.virtual.SkipSmallMoves(0.5)`. It needs a
            `Timing`, a method that exchanges points or what was done, and
            another protocol than "synchronous". None (default) for all.
        match_speeds: whether slower workers exchange after fewer local steps,
            so that all do about equally often: worker i of speed v_i after
            floor(tau v_i / max v), at least one. Default False. Needs a
            `Timing`.
        topology: a tree over the workers, instead of a star: "degree" or
            "degree:depth", such as "16:2"; the path of a file, see
            `tf_elastic.timeline.tree_file`; or a `core.topology.Topology`. Its
            leaves are the workers, and what is evaluated is its root. Points
            go one way (Algorithm 6 of the thesis), with alpha = beta / (d + 1)
            at a node of d children; or as the scheme says. None (default) for
            a star. Not with `protocol`, and what is of stars: `max_lag`,
            `quorum`, `max_staleness`, `policy`, `match_speeds`.
            `events` of elastic averaging alone.
        scheme: how often whom, in a tree: "multi_scale", "up_down" (default)
            or "answered", of elastic averaging; "synchronous", of `LocalSGD`;
            "accumulated", of `HALoS`; or a `core.topology.Scheme`.
        periods: the two of the scheme, in local steps: (tau_1, tau_2) of the
            workers' edges and of all above, or (tau_u, tau_d) up and down; of
            "synchronous" and "accumulated" the second counts a node's
            updates. None (default) for the optimizer's `communication_period`,
            and ten times that, or ten updates.
        most_waiting: points that may wait at each end of an edge of the tree,
            each way, at least 1; of more the oldest is lost. Default 4.
        events: a path: what happens is appended to this file, as a live
            cluster tells it, for `python -m tf_elastic.timeline`. None
            (default) for no file. With the first optimizer.
        device: where all workers are, such as "GPU:0". None (default) for the
            first GPU, or the CPU where there is none.

    Raises:
        ValueError: an argument is out of its range, or does not go with the
            others.

    Example:

    ```python
    timing = virtual.Timing(step=virtual.LogNormal(0.1, 0.3), latency=0.005)
    strategy = te.strategies.VirtualClusterStrategy(16, timing=timing)
    with strategy.scope():
        model = te.models.cifar_convnet()
        model.compile(te.optimizers.EAMSGD(0.005), loss=...)
    model.fit(train, steps_per_epoch=16 * 100)
    strategy.virtual_seconds
    ```

    Memory grows by weights and optimizer state for each worker, and once more
    by the weights for what is under way. In a tree that is by the weights for
    each inner node, and for each point under way: as many as there are at once.

    Workers' own variables read as those of the worker whose turn it is:
    `optimizer.iterations` is its clock. What a synchronous round takes in of
    statistics (of BatchNormalization) is as before its gradients, but for one
    worker. `use_ema` averages at each local step of anybody.
    """

    def __init__(
        self,
        num_workers: int,
        *,
        timing: Timing | str | MakeTimeline | None = None,
        protocol: str | None = None,
        seed: int = 0,
        max_lag: float | None = None,
        quorum: int | None = None,
        max_staleness: int | None = None,
        policy: Policy | None = None,
        match_speeds: bool = False,
        topology: Topology | str | os.PathLike[str] | None = None,
        scheme: Scheme | str | None = None,
        periods: Sequence[int] | None = None,
        most_waiting: int = one_way.DEFAULT_MOST_WAITING,
        events: str | os.PathLike[str] | None = None,
        device: str | None = None,
    ) -> None:
        if protocol is not None and protocol not in _PROTOCOLS:
            raise ValueError(
                f"`protocol` must be one of {_PROTOCOLS}, or None. "
                f"Received: protocol={protocol!r}."
            )
        if timing is None:
            timing = Timing(step=1.0)
        if isinstance(timing, str):
            timing = presets.preset(timing, num_workers=num_workers)
        if not (isinstance(timing, Timing) or callable(timing)):
            raise ValueError(
                "`timing` must be a `Timing`, the name of one, or a function "
                f"that makes a timeline. Received: timing={timing!r:.80}."
            )
        if match_speeds and not isinstance(timing, Timing):
            raise ValueError(
                "`match_speeds` needs a `Timing`, which has them. Received: "
                f"timing={timing!r:.80}."
            )
        if policy is not None and not isinstance(timing, Timing):
            raise ValueError(
                "`policy` needs a `Timing`. Received: "
                f"timing={timing!r:.80}. Give the policy to the timeline that "
                "it makes, if that is a `VirtualTimeline`."
            )

        tree = None
        if topology is not None:
            of_stars = {
                "protocol": protocol,
                "max_lag": max_lag,
                "quorum": quorum,
                "max_staleness": max_staleness,
                "policy": policy,
                "match_speeds": match_speeds or None,
            }
            tree = _tree(topology, scheme, periods, timing, of_stars)
            if events is not None and tree.protocol != ONE_WAY:
                raise ValueError(
                    "`events` are told of trees of elastic averaging. "
                    f"Received: events={events!r:.80}, with scheme={scheme!r}. "
                    "Leave one of them out."
                )
            one_way.check_most_waiting(most_waiting)
            # An answer moves who waits for it.
            is_meeting = tree.protocol == SYNCHRONOUS
            protocol = "synchronous" if is_meeting else "blocking"
        elif scheme is not None or periods is not None:
            raise ValueError(
                "`scheme` and `periods` are of a tree. Received: "
                f"scheme={scheme!r:.80}, periods={periods!r:.80}, without a "
                '`topology`. Give topology="4", say, or leave them out.'
            )

        def make_timeline(workload: Workload) -> Timeline:
            if tree is not None and isinstance(timing, Timing):
                period = workload.communication_period
                made = tree.over([""] * num_workers, period)
                own = sorted({made.up_period(leaf) for leaf in made.leaves})
                if own != [period]:
                    logging.info(
                        "The tree's workers send each %s local steps, and the "
                        "optimizer's communication_period is %d: the tree's "
                        "counts.",
                        " or ".join(map(str, own)),
                        period,
                    )
                return TreeTimeline(
                    timing,
                    workload,
                    made,
                    seed=seed,
                    most_waiting=most_waiting,
                )
            if not isinstance(timing, Timing):
                return timing(workload, num_workers)
            if match_speeds:
                workload = workload.matched(timing.steps_a_second(num_workers))
            return VirtualTimeline(
                timing,
                workload,
                num_workers,
                seed=seed,
                max_lag=max_lag,
                quorum=quorum,
                max_staleness=max_staleness,
                policy=policy,
            )

        super().__init__(
            VirtualClusterExtended(
                self,
                num_workers,
                device,
                protocol,
                make_timeline,
                None if events is None else EventFile(events),
                None if tree is None else tree.scheme_name,
            )
        )

    @property
    def virtual_seconds(self) -> float:
        """Virtual seconds from the beginning to the last step."""
        return self.extended.clock.seconds

    @property
    def local_steps(self) -> int:
        """Steps that all workers have taken together."""
        return self.extended.clock.steps

    @property
    def totals(self) -> Totals | None:
        """Updates, bytes, goodput and what workers' time was spent on.

        Of the newest optimizer, up to what follows the last step; None before
        there is one.
        """
        turns = self.extended.clock.turns
        return None if turns is None else turns.totals

    @property
    def goodput(self) -> float:
        """The share of local steps whose work has reached the center.

        Of those of which it is known; 1 before there are any.
        """
        return 1.0 if self.totals is None else self.totals.goodput

    def events(self) -> Iterator[Event]:
        """What has happened so far, as a live cluster tells it.

        `python -m tf_elastic.timeline` reads a file of them, one
        `event.to_json()` a line. Rates that follow a variable are left out.

        Raises:
            ValueError: there is no optimizer yet, or a record is repeated,
                which has its own.
        """
        return self.extended.events()

    def staleness(self) -> np.ndarray:
        """How often the center has seen how stale a message.

        Returns:
            Counts, int64: [k] is of messages before which the center has had
            k updates since their workers had read it.
        """
        turns = self.extended.clock.turns
        counts = {} if turns is None else turns.staleness
        found = np.zeros(max(counts, default=-1) + 1, np.int64)
        for staleness, count in counts.items():
            found[staleness] = count
        return found


def _tree(
    topology: Topology | str | os.PathLike[str],
    scheme: Scheme | str | None,
    periods: Sequence[int] | None,
    timing: object,
    of_stars: Mapping[str, object],
) -> WantedTree:
    """The tree that is asked for, and nothing that it has not."""
    for name, value in of_stars.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is of a star. Received: {name}={value!r:.80}, with "
                "a `topology`. Leave one of them out."
            )
    if not isinstance(timing, Timing):
        raise ValueError(
            "A tree needs a `Timing`. Received: "
            f"timing={timing!r:.80}, with a `topology`. Leave one of them out."
        )
    return wanted_tree.wanted(topology, scheme, periods)


_PROTOCOLS = ("overlapped", "blocking", "synchronous")
