"""The center of a bank: one copy, on the device of the workers."""

from collections.abc import Sequence

from tf_elastic.core.rules.base import CENTER
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.virtual.pieces import Packed
from tf_elastic.strategies.virtual.pieces import Parents
from tf_elastic.strategies.virtual.places import Tensors


class BankCenter:
    """What the center keeps of each variable, as its rule has it.

    Args:
        spec: what is exchanged, by which rule and numbers.
        statistics: that are taken along.
    """

    def __init__(
        self, spec: Spec, statistics: Sequence[ElasticVariable]
    ) -> None:
        self._parameters = list(spec.parameters)
        self._statistics = list(statistics)
        self._shown = spec.rule.shown
        self._kept = spec.kept

    def read(self) -> Parents:
        """What it keeps now: of parameters, then of statistics."""
        parents: Parents = []
        for parameter in self._parameters:
            kept = {
                name: slot.store.live[0].read_value()
                for name, slot in parameter.parent.items()
            }
            center = parameter.variable.store.read_center(0)
            parents.append({self._shown: center, **kept})
        for variable in self._statistics:
            center = variable.store.read_center(0)
            parents.append({CENTER: center})
        return parents

    def all_points(self) -> Tensors:
        """Where it is, of all variables: not an average over time."""
        return [parent[CENTER] for parent in self.read()]

    def statistics_of(self, parents: Parents) -> Tensors:
        """The values of the statistics.

        Args:
            parents: what `read` gave.
        """
        own = parents[len(self._parameters) :]
        return [parent[CENTER] for parent in own]

    def points(self) -> Tensors:
        """The centers of the parameters, whatever is shown."""
        parents = self.read()[: len(self._parameters)]
        return [parent[CENTER] for parent in parents]

    def shown(self, parents: Parents) -> Tensors:
        """What is evaluated and saved, of all variables.

        Args:
            parents: what it keeps.
        """
        own = parents[: len(self._parameters)]
        return [
            *(parent[self._shown] for parent in own),
            *self.statistics_of(parents),
        ]

    def write(self, parents: Parents, packed: Packed) -> None:
        """It has moved.

        Args:
            parents: what it keeps from now on.
            packed: the rates by which it has; the numbers among them that the
                optimizer keeps for the next time are set.
        """
        variables = [p.variable for p in self._parameters] + self._statistics
        for variable, value in zip(variables, self.shown(parents), strict=True):
            variable.store.set_center(value)
        for parameter, parent in zip(self._parameters, parents, strict=False):
            for name, slot in parameter.parent.items():
                slot.store.live[0].assign(parent[name], read_value=False)
        for name, number in self._kept.items():
            number.assign(packed[0][name])

    def smallest(self) -> Tensors:
        """A small tensor of a worker and one of the center."""
        smallest = min(
            self._parameters, key=lambda p: p.variable.shape.num_elements()
        ).variable.store
        return [smallest.live[0].read_value(), smallest.centers[0].read_value()]
