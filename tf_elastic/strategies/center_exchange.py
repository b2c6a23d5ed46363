"""An exchange between this process' worker and the center of a cluster.

What crosses processes is flat: one array for each section of the layout. Here
is how a model's variables become these, and how the worker follows what comes
back. The rules are those of `core`, compiled on each device.
"""

import copy
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from tf_elastic.cluster import layout
from tf_elastic.cluster.worker import moved
from tf_elastic.core import protocols
from tf_elastic.core.protocols import ExchangeProtocol
from tf_elastic.core.rules import Rates
from tf_elastic.optimizers.compiled import compile_for
from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.elastic_variable import ElasticVariable

Tensors = list[tf.Tensor]
# Of each section, or each variable, in a graph or not.
Flat: TypeAlias = Sequence[tf.Tensor] | Sequence[np.ndarray]

_MOMENTS = {protocols.GRADIENT: "before", protocols.STEP: "after"}


class CenterExchange:
    """Base class: the variables that one worker exchanges with the center.

    All devices of the process hold the same; the first one speaks for them.

    Args:
        parameters: of the rule: what is exchanged, trainable variables.
        statistics: floating variables that are not trained.
        devices: of this process.
        num_shards: how many center servers there are.
        jit_compile: whether to use XLA: True, False, or "auto".
        protocol: by which they exchange, with the rule.
    """

    closing = under_way = None  # the centers are not here
    # Whether the worker's steps are a part of the exchange.
    takes_steps = False
    # Whether a worker is counted by what the center has from the first.
    joins_at_once = False
    # Whether what a PULL brings is read and no more. Without XLA TensorFlow
    # may make a variable of the memory that it is given.
    only_reads = False
    # Runs of parameters that are not trained, and stay; see `layout.runs_of`.
    at_rest: Sequence[Sequence[int]] = ()
    _part_of: "CenterExchange | None" = None

    def __init__(
        self,
        parameters: Sequence[ExchangedVariable | AdmmVariable],
        statistics: Sequence[ElasticVariable],
        devices: Sequence[str],
        num_shards: int,
        jit_compile: bool | str,
        protocol: ExchangeProtocol,
    ) -> None:
        self.protocol = protocol
        self.parameters = list(parameters)
        self._statistics = list(statistics)
        self._devices = list(devices)
        self._variables = [p.variable for p in parameters] + list(statistics)
        roles = [layout.PARAMETERS] * len(self.parameters)
        roles += [layout.STATISTICS] * len(statistics)
        self.layout = layout.Layout(
            [
                layout.VariableSpec(
                    variable.name,
                    tuple(variable.shape),
                    variable.dtype.name,
                    role,
                )
                for variable, role in zip(self._variables, roles, strict=True)
            ],
            num_shards,
            protocol.rule,
        )
        self._jit_compile = jit_compile
        self._outgoing = self._compile(devices[0], self._outgoing_values)

    @property
    def moments(self) -> tuple[str, ...]:
        """When it happens: "before" or "after" a local step."""
        return tuple(_MOMENTS[moment] for moment in self.protocol.moments)

    @property
    def statistics(self) -> list[ElasticVariable]:
        """What is taken along."""
        return self._statistics

    def may_be_followed_by(self, spec: Spec) -> bool:
        """Whether the center goes on by another optimizer's rule.

        Args:
            spec: of some of the same parameters.
        """
        del spec
        return False

    @property
    def whole(self) -> "CenterExchange":
        """The exchange of which this one is `training` a part."""
        return self._part_of or self

    def training(self, indices: Collection[int]) -> "CenterExchange":
        """The same, of a step that trains some of the parameters only.

        All is exchanged: the others may train what this worker does not.
        Where the center moves without a message (by a velocity, or an average
        of the past) it is told which ones are to stay.

        Args:
            indices: of those that are trained.
        """
        rule = self.protocol.rule
        if (
            self.takes_steps
            or rule.answers_difference
            or (not rule.moves_by_itself)
        ):
            return self
        resting = set(range(len(self.parameters))) - set(indices)
        twin = copy.copy(self.whole)
        twin.at_rest = layout.runs_of(sorted(resting))
        twin._part_of = self.whole
        return twin

    def take_over(self, before: "CenterExchange") -> None:
        """Goes on from the exchange before; eager or not."""

    def _compile(self, device: str, function: Callable) -> Callable:
        compiled = compile_for(device, function, self._jit_compile)

        def on_device(*args: Any) -> Any:
            with tf.device(device):
                return compiled(*args)

        return on_device

    @property
    def dtypes(self) -> list[tf.DType]:
        """The dtypes of the sections."""
        return [tf.as_dtype(s.dtype) for s in self.layout.sections]

    def numbers(self, clock: tf.Tensor) -> tf.Tensor:
        """What the rates depend on, beside p and the clock: a vector."""
        del clock
        return tf.zeros([0], tf.float64)

    def rates(
        self, num_workers: int, clock: int, numbers: Sequence[float]
    ) -> Rates:
        """Of an exchange, for p workers."""
        raise NotImplementedError

    def points(self) -> Tensors:
        """The worker's points and statistics, flat, one for each section."""
        return self._flat([p.point(0) for p in self.parameters])

    def outgoing(self) -> Tensors:
        """What the worker sends, and its statistics, for `laid_out`."""
        return self._outgoing()

    def left_over(self) -> Tensors:
        """What is still to be sent at the end of training, in eager code.

        Returns:
            As of `outgoing`; nothing where there is nothing.
        """
        return self.outgoing()

    def laid_out(
        self,
        outgoing: Sequence[np.ndarray],
        room: Callable[[], list[np.ndarray]],
    ) -> list[np.ndarray]:
        """Makes of what `outgoing` gave a flat array for each section.

        Args:
            outgoing: as TensorFlow has it.
            room: gives arrays that may be filled, and are the result then.
        """
        del room
        return list(outgoing)

    def _outgoing_values(self) -> Tensors:
        return self.points()

    def follow(
        self, kind: tf.Tensor, moving_rate: tf.Tensor, arrays: Tensors
    ) -> None:
        """Does what a `Moved` says, on all devices.

        Args:
            kind: integer scalar.
            moving_rate: alpha, float64 scalar.
            arrays: of the sections, flat.
        """
        tf.cond(
            tf.equal(kind, moved.RESTART),
            lambda: self.restart(self._shaped(arrays)),
            lambda: tf.cond(
                tf.equal(kind, moved.NOTHING),
                lambda: None,
                lambda: self._obey(moving_rate, self._shaped(arrays)),
            ),
        )

    def sent(self, leaves: tf.Tensor) -> None:
        """Notes whether what was outgoing leaves; boolean scalar."""

    def _obey(self, moving_rate: tf.Tensor, flat: Tensors) -> None:
        raise NotImplementedError

    def restart(self, flat: Flat) -> None:
        """Sets worker and center to the center's values, velocity to zero.

        Args:
            flat: of the sections.
        """
        self.show(flat)
        values = self._cut(flat)
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for variable, value in zip(
                    self._variables, values, strict=True
                ):
                    variable.store.assign(i, value)
                self._begin_anew(i)

    def _begin_anew(self, i: int) -> None:
        """Resets what device i keeps beside the parameters."""

    def show(self, flat: Flat) -> None:
        """Sets the copies of the center, on all devices."""
        values = self._cut(flat)
        for i, device in enumerate(self._devices):
            with tf.device(device):
                for variable, value in zip(
                    self._variables, values, strict=True
                ):
                    center = variable.store.center_at(i)
                    center.assign(value, read_value=False)

    def show_if(self, any_: tf.Tensor, arrays: Tensors) -> None:
        """The same in a graph, if there are any arrays.

        Args:
            any_: whether there are; boolean scalar. (TensorFlow may compute
                `_shaped` in a branch that it does not take, where the
                condition is on the arrays' own size.)
            arrays: of the sections, flat, or empty.
        """
        tf.cond(any_, lambda: self.show(self._shaped(arrays)), lambda: None)

    def begin(self, kind: tf.Tensor, arrays: Tensors) -> None:
        """A worker begins at the center, in a graph.

        Args:
            kind: RESTART if it is somewhere else yet, NOTHING if it does not
                begin; integer scalar.
            arrays: the center, one for each section; empty for NOTHING.
        """
        tf.cond(
            tf.equal(kind, moved.RESTART),
            lambda: self._move_to(self._shaped(arrays)),
            lambda: self.show_if(tf.not_equal(kind, moved.NOTHING), arrays),
        )

    def _move_to(self, flat: Flat) -> None:
        """A worker that has brought nothing yet begins there."""
        self.restart(flat)

    def results(self) -> Tensors:
        """Small tensors that are there only when all updates are done."""
        smallest = min(
            self.parameters,
            key=lambda parameter: parameter.variable.shape.num_elements(),
        ).variable
        return list(smallest.store.values())

    def _flat(self, values: Sequence[tf.Tensor]) -> Tensors:
        """Of the parameters, and of the worker's statistics: end to end."""
        return self._end_to_end(
            [
                *values,
                *(v.store.read(0) for v in self._statistics),
            ]
        )

    def _end_to_end(self, values: Sequence[tf.Tensor]) -> Tensors:
        return [
            tf.concat([tf.reshape(values[k], [-1]) for k in s.members], 0)
            for s in self.layout.sections
        ]

    def _shaped(self, arrays: Tensors) -> Tensors:
        """Arrays of the sections, whose sizes a graph does not know."""
        return [
            tf.ensure_shape(array, [section.size])
            for array, section in zip(arrays, self.layout.sections, strict=True)
        ]

    def _cut(self, flat: Flat) -> Flat:
        """The variables' values in flat sections."""
        values: list[tf.Tensor | np.ndarray] = [None] * len(self._variables)
        for section, array in zip(self.layout.sections, flat, strict=True):
            begin = 0
            for k in section.members:
                shape = self._variables[k].shape
                size = int(np.prod(shape, dtype=np.int64))
                part = array[begin : begin + size]
                values[k] = (
                    part.reshape(shape)
                    if isinstance(part, np.ndarray)
                    else tf.reshape(part, shape)
                )
                begin += size
        return values
