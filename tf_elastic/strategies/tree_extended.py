"""A process that is a leaf of a tree, as the optimizers see it."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from tf_elastic.cluster.launch.cluster_tree import ClusterTree
from tf_elastic.cluster.worker.answered_client import AnsweredClient
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.leaf_client import LeafClient
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import one_way
from tf_elastic.core import protocols
from tf_elastic.core.rules import Rates
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchanges import CenterExchanges
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.multi_worker_extended import (
    ElasticMultiWorkerExtended,
)
from tf_elastic.strategies.tree_exchange import TreeExchange
from tf_elastic.strategies.tree_session import AnsweredSession
from tf_elastic.strategies.tree_session import TreeSession


class TreeExchanges(CenterExchanges):
    """Makes the exchanges of a leaf; for arguments see `CenterExchanges`."""

    def protocol_of(self, method: str) -> str:
        """The tree's, whatever the method's own is."""
        del method
        return protocols.OneWay.name

    def taken(self, spec: Spec) -> Spec:
        """See `CenterExchanges`: the rule has to work both ways."""
        check_rule(spec)
        return spec

    def made(self, spec: Spec, **where: Any) -> CenterExchange:
        """See `CenterExchanges`."""
        return TreeExchange(spec, **where)


class AnsweredExchanges(CenterExchanges):
    """The same where what a leaf sends is answered, as in a star."""

    def taken(self, spec: Spec) -> Spec:
        """As of `TreeExchanges`; by alpha = beta / (d + 1)."""
        check_rule(spec)
        return spec._replace(rates=_in_a_tree(spec.rates))


def _in_a_tree(rates: Callable[..., Rates]) -> Callable[..., Rates]:
    """Of an optimizer's rates in a star, those in a tree; p is d then."""

    def of(p: int, clock: Any, numbers: Sequence[Any]) -> Rates:
        told = one_way.told_by(lambda count: rates(count, clock, numbers))
        in_star = rates(p, clock, numbers)
        return {**in_star, **one_way.answered_rates(p, **told)}

    return of


def check_rule(spec: Spec) -> None:
    """Refuses a method of which there is no tree.

    Raises:
        ValueError: its rule does not work both ways.
    """
    try:
        one_way.check_rule(spec.rule)
    except ValueError as error:
        raise ValueError(
            "A tree needs a method whose rule works both ways, up and down: "
            "elastic averaging with any local step. Received: "
            f"{spec.method}, whose rule is {spec.rule.name!r}. Use "
            "`Elastic(keras_optimizer)` or `EAMSGD`, or a star "
            "(`ElasticMultiWorkerStrategy`)."
        ) from error


class ElasticTreeExtended(ElasticMultiWorkerExtended):
    """The process is a leaf, or looks on; see `ElasticMultiWorkerExtended`.

    Args:
        container_strategy: whose it is.
        tree: over the tasks of the cluster.
        **settings: of `ElasticMultiWorkerExtended`.
    """

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        tree: ClusterTree,
        **settings: Any,
    ) -> None:
        self.tree = tree
        super().__init__(
            container_strategy,
            tree.configuration,
            protocol=None,
            compression="none",
            **settings,
        )
        kind = AnsweredExchanges if tree.is_answered else TreeExchanges
        self._exchanges = kind(None, "none", self._devices, tree.num_shards)
        self._told_of_period = False

    def _new_session(self, group: int) -> CenterSession:
        configuration = self.configuration
        security, _, timeouts = self._client_settings
        around = Surroundings(events=self._events)
        if configuration.worker_index is None:
            client = CenterClient(
                self.tree.root,
                None,
                False,
                configuration.num_workers,
                security,
                timeouts=timeouts,
                group=group,
                around=around,
            )
            return CenterSession(client, False, self._samples, self.timer)
        if self.tree.is_answered:
            asks = AnsweredClient(self.tree, security, timeouts, group, around)
            return AnsweredSession(asks, True, self._samples, self.timer)
        leaf = LeafClient(self.tree, security, timeouts, group, around)
        return TreeSession(leaf, True, self._samples, self.timer)

    @property
    def num_workers(self) -> int:
        """The number of workers, p: the leaves."""
        return self.configuration.num_workers

    def order_of(self, method: str) -> str:
        """One after another: what comes is followed as it comes.

        Raises:
            ValueError: the method has no such order.
        """
        return registry.chosen(method, "order", "gauss_seidel")

    def overlaps(self, method: str) -> bool:
        """Whether what is answered is so a period later."""
        return self.tree.is_answered and super().overlaps(method)

    def make_exchange(
        self, spec: Spec, jit_compile: bool | str
    ) -> CenterExchange:
        """See `ElasticMultiWorkerExtended`."""
        made = super().make_exchange(spec, jit_compile)
        place = self._leaf_period()
        period = getattr(spec, "communication_period", None)
        if place and period not in (None, place) and not self._told_of_period:
            self._told_of_period = True
            logging.info(
                "The tree has this worker send every %d steps: the "
                "optimizer's communication_period=%d does not count.",
                place,
                period,
            )
        return made

    def _leaf_period(self) -> int | None:
        if self.configuration.worker_index is None:
            return None
        return self.tree.own_place.up_period
