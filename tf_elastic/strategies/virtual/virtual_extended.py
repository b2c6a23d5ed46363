"""A process that is all workers of a cluster, one after another."""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import protocols
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.optimizers.strategy_interface import Gradient
from tf_elastic.strategies.elastic_extended import ElasticExtended
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.step import Step
from tf_elastic.strategies.stores import Bank
from tf_elastic.strategies.stores import Create
from tf_elastic.strategies.stores import DeviceStore
from tf_elastic.strategies.stores import WorkerStore
from tf_elastic.strategies.virtual import own_data
from tf_elastic.strategies.virtual.admm_bank_exchange import AdmmBankExchange
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.clock import VirtualClock
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.told_rates import constant_rates
from tf_elastic.strategies.virtual.tree_accumulation import AccumulatingTree
from tf_elastic.strategies.virtual.tree_exchange import TreeExchange
from tf_elastic.strategies.virtual.tree_meetings import MeetingTree
from tf_elastic.strategies.virtual.tree_one_way import OneWayTree
from tf_elastic.strategies.virtual.tree_one_way import node_rates
from tf_elastic.strategies.virtual.turns import Timeline
from tf_elastic.strategies.virtual.turns import Turns
from tf_elastic.strategies.virtual.turns import first_steps
from tf_elastic.strategies.virtual.under_way import UnderWay
from tf_elastic.strategies.virtual.workload_of import workload_of
from tf_elastic.timeline.event import Event
from tf_elastic.timeline.fingerprint import fingerprint
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.engine import VirtualTimeline
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.recorded import RecordedTimeline
from tf_elastic.timeline.virtual.telling import Teller
from tf_elastic.timeline.virtual.telling import events_of
from tf_elastic.timeline.virtual.totals import Totals
from tf_elastic.timeline.virtual.tree_engine import TreeTimeline
from tf_elastic.timeline.virtual.tree_telling import TreeTeller
from tf_elastic.timeline.virtual.workload import Workload

MakeTimeline = Callable[[Workload], Timeline]


class VirtualClusterExtended(ElasticExtended):
    """All workers take turns on one device.

    Args:
        container_strategy: whose `extended` this is.
        num_workers: p.
        device: where they are; None for the first GPU, or the CPU.
        protocol: one of `core.protocols`; None for each optimizer's own.
        make_timeline: of what an optimizer exchanges.
        events: is told what happens, with the first optimizer; None for
            nobody.
        scheme: of a tree, for messages; None without one.
    """

    holds_center = True

    def __init__(
        self,
        container_strategy: tf.distribute.Strategy,
        num_workers: int,
        device: str | None,
        protocol: str | None,
        make_timeline: MakeTimeline,
        events: Callable[[Event], None] | None = None,
        scheme: str | None = None,
    ) -> None:
        super().__init__(container_strategy, [device or _default_device()])
        self._bank = Bank(num_workers)
        self._asked_protocol = protocol
        self._scheme = scheme
        self._make_timeline = make_timeline
        self.clock = VirtualClock(self._bank)
        self._model = ""  # its fingerprint
        self._rates_of: Callable[..., Any] | None = None
        self._events = events
        self._may_skip = False  # the step that is being built

    @property
    def num_workers(self) -> int:
        """The number of workers, p."""
        return self._bank.num_workers

    @property
    def local_workers(self) -> range:
        """All of them."""
        return range(self._bank.num_workers)

    def worker_of(self, replica: int) -> tf.Tensor:
        """The worker whose turn it is, int64 scalar."""
        del replica  # There is one.
        return self._bank.turn

    @property
    def gradient_scale(self) -> float:
        """Nothing to undo: Keras knows of one replica."""
        return 1.0 / compat.loss_scale_of(1)

    def worker_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """The gradients of the worker whose turn it is: all there are."""
        return list(grads)

    def make_store(
        self,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
        is_common: bool,
    ) -> WorkerStore:
        """See `ElasticExtended`."""
        if is_common:
            return DeviceStore.make(create, arguments, has_center)
        return self._bank.make(create, arguments, has_center)

    def _distribute_datasets_from_function(
        self, dataset_fn: own_data.DatasetFn, options: Any
    ) -> Any:
        """Each worker has a data set of its own, as in a cluster."""
        dataset = own_data.taken_in_turn(
            dataset_fn, self.num_workers, self.clock.coming_workers
        )
        return self._experimental_distribute_dataset(dataset, options)

    # The exchange.

    def protocol_of(self, method: str) -> str:
        """What was asked for, or the method's own.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: what was asked for is none that the method has.
        """
        known = registry.named(method)
        if self._scheme and self._asked_protocol not in known.protocols:
            raise ValueError(
                f"{method} has no tree of `scheme={self._scheme!r}`: "
                f"{known.refusal}. Received: scheme={self._scheme!r}. "
                "Workers meet in a tree of scheme='synchronous', which "
                "`LocalSGD` has; or leave `topology` out."
            )
        return registry.chosen(method, "protocol", self._asked_protocol)

    def order_of(self, method: str) -> str:
        """The order that the protocol amounts to; see `theory.ORDERS`."""
        synchronous = self.protocol_of(method) == "synchronous"
        return "jacobi" if synchronous else "round_robin"

    def overlaps(self, method: str) -> bool:
        """Whether what comes back is applied a period later."""
        return self.protocol_of(method) == "overlapped"

    def make_exchange(
        self, spec: Spec, jit_compile: bool | str
    ) -> BankExchange:
        """Prepares the exchange of an optimizer's parameters."""
        protocol = protocols.PROTOCOLS[self.protocol_of(spec.method)](spec.rule)
        statistics = self.statistics()
        workload = workload_of(spec, statistics, protocol)
        timeline = self._make_timeline(workload)
        self._model = fingerprint(
            (tuple(variable.shape), variable.dtype.name, role)
            for role, variables in (
                ("parameters", [p.variable for p in spec.parameters]),
                ("statistics", statistics),
            )
            for variable in variables
        )
        if not isinstance(timeline, TreeTimeline):
            self._rates_of = constant_rates(spec)
        elif timeline.tells and isinstance(spec, ExchangeSpec):
            self._rates_of = node_rates(spec)
        if isinstance(timeline, RecordedTimeline):
            timeline.check(
                self.num_workers, protocol.name, spec.rule, self._model
            )
        kinds = getattr(timeline, "kinds", None)
        kinds = (
            kinds or moves.KINDS[getattr(timeline, "protocol", protocol.name)]
        )
        is_before = getattr(
            timeline, "is_before", protocols.GRADIENT in protocol.moments
        )
        with self.plain_variables():
            exchange = self._exchange_of(spec, timeline)(
                spec,
                statistics,
                self._bank,
                self._devices[0],
                kinds=kinds,
                is_before=is_before,
                answers_later=protocol.answers_later,
                p_varies=getattr(timeline, "p_varies", False),
                written=self.clock.written,
                jit_compile=jit_compile,
            )
        totals = functools.partial(Totals, workload, self.num_workers)
        totals = getattr(timeline, "new_totals", totals)
        tell = self._teller_of(timeline)
        exchange.turns = Turns(timeline, kinds, exchange.waits, totals, tell)
        with self.plain_variables():
            self.clock.begin(exchange.turns)
            if isinstance(exchange, TreeExchange):
                first = exchange.turns.turn(0)
                exchange.begin([*first.early, *first.late])
        exchange.under_way = UnderWay(
            [
                *exchange.variables,
                self.clock.before_first,
                *(self.clock.decided or ()),
            ],
            exchange.by_variable,
            self.clock.state,
            self.clock.go_on_at,
        )
        return exchange

    def _exchange_of(
        self, spec: Spec, timeline: Timeline
    ) -> Callable[..., BankExchange]:
        if isinstance(timeline, TreeTimeline):
            kind = _TREES[timeline.topology.protocol]
            return functools.partial(
                kind,
                nodes=timeline.nodes,
                moves_nodes=timeline.moves_nodes,
            )
        return AdmmBankExchange if spec.takes_steps else BankExchange

    def _teller_of(self, timeline: Timeline) -> Callable[[Move], None] | None:
        """Who tells of the moves as they come near, if somebody is told."""
        told, self._events = self._events, None
        if told is None:
            return None
        teller: Teller | TreeTeller
        if isinstance(timeline, VirtualTimeline):
            calls = timeline.workload.calls
            teller = Teller(timeline, self._rates_of, self._model, calls)
        elif isinstance(timeline, TreeTimeline) and timeline.tells:
            calls = timeline.workload.calls
            teller = TreeTeller(timeline, self._rates_of, self._model, calls)
        else:
            return None
        for event in teller.begin():
            told(event)

        def tell(move: Move) -> None:
            for event in teller(move):
                told(event)

        return tell

    def events(self) -> Iterator[Event]:
        """See `VirtualClusterStrategy`."""
        turns = self.clock.turns
        timeline = None if turns is None else turns.timeline
        is_known = isinstance(timeline, VirtualTimeline | TreeTimeline)
        if not is_known or not getattr(timeline, "tells", True):
            raise ValueError(
                "A virtual cluster can tell what has happened by a `Timing`, "
                "a tree if it is one of elastic averaging. Received: "
                f"timeline={timeline!r:.80}. Train by one first."
            )
        return events_of(
            timeline,
            first_steps(timeline, self.clock.steps),
            rates=self._rates_of,
            model=self._model,
            accumulation=timeline.workload.calls,
        )

    def narrow(
        self,
        exchange: BankExchange,
        spec: Spec,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> BankExchange:
        """The exchange of a step that trains some of the variables only."""
        del spec, jit_compile
        if isinstance(exchange, AdmmBankExchange):
            return exchange.training(indices)
        return exchange  # All is exchanged, also what a step does not train.

    def prepare_closing(self, exchange: BankExchange) -> None:
        """Nothing: what is under way stays so when training ends."""

    def exchange_if(
        self,
        moment: str,
        due: tf.Tensor,
        exchange: BankExchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """What a step's kind says, whatever is `due`; cross-replica.

        Args:
            moment: "before" or "after" the step.
            due: whether a step is taken; when the timeline knows.
            exchange: what `make_exchange` returned.
            clock: local steps of the worker whose turn it is.
            count: not asked, likewise.
            then: called after each update of the center, or each step that is
                a part of an exchange.
        """
        del count
        if isinstance(exchange, AdmmBankExchange):
            exchange.stepped = self.counting(then)
        else:
            exchange.updated = self.counting(then)
        if exchange.closing is not None and moment == exchange.moments[0]:
            exchange.closing.reopen_if_closed()
        exchange.rates.note(self._bank.turn, clock)
        if isinstance(exchange, AdmmBankExchange):
            step = self.clock.before_step(exchange)
            tf.cond(due, lambda: exchange.step(step, clock), lambda: None)
        elif moment == "before":
            self.clock.before_step(exchange)
        if moment == "after":
            # In a branch, as of what scales the loss.
            self._may_skip = not self.step.is_of_this_graph()
            self.clock.step_is_taken()

    def counting(self, then: Callable[[], None]) -> Callable[[Moment], None]:
        """What is done when the center has moved, of what follows an exchange.

        Args:
            then: the latter.
        """
        return lambda moment: then()

    def replicas_have_run(self, step: Step) -> None:
        """The step is taken: the next worker has its turn."""
        super().replicas_have_run(step)
        if not step.optimizers:
            return
        if len(step.optimizers) > 1:
            names = [
                type(optimizer).__name__ for optimizer, *_ in step.optimizers
            ]
            raise ValueError(
                "In a virtual cluster each training step has to be that of "
                f"one optimizer. Received: {', '.join(names)} in one step. Use "
                "`ElasticMirroredStrategy` for several."
            )
        exchange = step.optimizers[0][1]
        arrived = [tensor for own in step.batch for tensor in own]
        with tf.control_dependencies(arrived):
            self.clock.after_step(exchange, self._may_skip)

    def follow(self, variables: Sequence[ElasticVariable], step: Step) -> None:
        """Lets centers follow a worker whose period has ended, by a p-th."""
        optimizer, *_ = step.optimizers[0]
        of_all = {"num_workers": self.num_workers}
        rates = rules.Follow().rates_at(of_all, Context())

        def follow() -> None:
            for variable in variables:
                store = variable.store
                rule = rules.for_dtype(rules.Follow(), variable.dtype.name)
                parent = {"center": store.read_center(0)}
                delta = rule.delta(store.live[0].read_value(), parent)
                moved = rule.apply(parent, delta, rates)["center"]
                store.set_center(moved)

        tf.cond(optimizer.period_ends(), follow, lambda: None)


_TREES = {
    tree.protocol: tree for tree in (OneWayTree, MeetingTree, AccumulatingTree)
}


def _default_device() -> str:
    return "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
