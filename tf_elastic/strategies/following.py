"""Centers of what a step assigns to without training it."""

from collections.abc import Sequence

from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.strategies.elastic_variable import ElasticVariable


def follow_mean(variables: Sequence[ElasticVariable], num_workers: int) -> None:
    """Moves centers to the mean of what the workers have.

    Args:
        variables: whose centers they are.
        num_workers: p.
    """
    of_all = {"num_workers": num_workers}
    rates = rules.Follow().rates_at(of_all, Context())
    for variable in variables:
        rule = rules.for_dtype(rules.Follow(), variable.dtype.name)
        parent = {"center": variable.store.read_center(0)}
        deltas = [
            rule.delta(value, parent) for value in variable.store.values()
        ]
        moved = orders.collect(rule, parent, deltas, rates)
        variable.store.set_center(moved["center"])
