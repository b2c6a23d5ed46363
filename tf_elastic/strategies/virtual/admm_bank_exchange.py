"""ADMM between workers of a bank and their center, move by move."""

import copy
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic import core
from tf_elastic.optimizers.exchange_spec import AdmmSpec
from tf_elastic.strategies.virtual.bank_exchange import BankExchange
from tf_elastic.strategies.virtual.moment import Moment
from tf_elastic.strategies.virtual.places import Live
from tf_elastic.strategies.virtual.places import Place
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.timeline.virtual import moves


class AdmmBankExchange(BankExchange):
    """Workers read, take their steps, and bring new parts: eqs. 3.52 to 3.54.

    As a period begins a worker finds the center in its mail and takes its dual
    step, at each step a proximal one, and at the end it brings what its part
    has changed by. A part is the center's from when it has arrived.

    Args:
        spec: what each worker keeps, and the numbers of a step.
        **kwargs: of `BankExchange`.
    """

    moments = ("after",)  # the gradients: the steps are taken here

    def __init__(self, spec: AdmmSpec, *args: Any, **kwargs: Any) -> None:
        super().__init__(spec, *args, **kwargs)
        self.waits = (moves.ASK, moves.ANSWER)
        self._steps = spec
        self._trained = range(len(spec.parameters))
        # What the optimizer does when a step was taken.
        self.stepped: Callable[[Moment], None] = lambda moment: None

    def training(self, indices: Sequence[int]) -> "AdmmBankExchange":
        """The same, of a step that trains some of the parameters only.

        Args:
            indices: of those whose steps are taken.
        """
        twin = copy.copy(self)
        twin._trained = list(indices)
        return twin

    def settle(self, moment: Moment, place: Place | None = None) -> None:
        """A period begins, if a step is taken; a part is not answered."""
        if place is None:
            return
        centers = self.mail.row(moment.worker)
        for k in self._trained:
            parameter, center = self._steps.parameters[k], centers[k]
            multiplier = parameter.multiplier.store
            dual = core.admm.dual_step(
                place.get(multiplier),
                place.get(parameter.variable.store),
                center,
            )
            place.set(parameter.anchor.store, center)
            place.set(multiplier, dual)

    def step(self, moment: Moment, clock: tf.Tensor) -> None:
        """Takes a step of the worker whose turn it is.

        Args:
            moment: of the step.
            clock: its local steps, this one too.
        """
        place = Live()
        trained = [self._steps.parameters[k] for k in self._trained]
        points = self._compiled(
            self._moved,
            [
                [
                    place.get(variable.store)
                    for variable in (
                        parameter.variable,
                        parameter.gradient,
                        parameter.multiplier,
                        parameter.anchor,
                    )
                ]
                for parameter in trained
            ],
            self._steps.numbers(clock)[0],
        )
        for parameter, point in zip(trained, points, strict=True):
            place.set(parameter.variable.store, point)
        self.stepped(moment)

    def _moved(
        self, values: Sequence[Tensors], learning_rate: tf.Tensor
    ) -> Tensors:
        return [
            core.admm.proximal_step(
                *of_one,
                tf.cast(learning_rate, of_one[0].dtype),
                tf.constant(self._steps.elasticity, of_one[0].dtype),
            )
            for of_one in values
        ]

    def arrive(self, moment: Moment) -> None:
        """A part is here: the center moves."""
        self.read(moment)
        self.apply(moment)
        row = Row(moment.worker)  # It waits, and has not moved.
        for parameter in self._steps.parameters:
            part = core.admm.contribution(
                row.get(parameter.variable.store),
                row.get(parameter.multiplier.store),
            )
            row.set(parameter.pushed.store, part)

    def restart(self, moment: Moment) -> None:
        """A worker begins at the center, which counts it as it is there."""
        super().restart(moment)
        row = Row(moment.worker)
        for parameter in self._steps.parameters:
            x = row.get(parameter.variable.store)
            row.set(parameter.multiplier.store, tf.zeros_like(x))
            row.set(parameter.anchor.store, x)
            row.set(parameter.pushed.store, x)
