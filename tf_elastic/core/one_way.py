r"""Points that go one way, up or down a tree, and are not answered.

.. math:: x^i \leftarrow x^i + \alpha (y - x^i)

for whatever point y arrives, from the parent or from a child, as soon as it is
there and as x is then: the Gauss-Seidel form (Zhang 2016, Algorithm 6).
"""

from collections.abc import Callable

from tf_elastic.core import orders
from tf_elastic.core.arrays import Array
from tf_elastic.core.rates import elastic_rates
from tf_elastic.core.rules.base import CENTER
from tf_elastic.core.rules.base import Rates
from tf_elastic.core.rules.base import Rule
from tf_elastic.core.rules.base import Slots

# Messages that wait on an edge, each way; of more the oldest is lost.
DEFAULT_MOST_WAITING = 4
# Seconds without its parent after which a child goes to its parent's parent.
DEFAULT_MOVE_S = 60.0


def check_rule(rule: Rule) -> None:
    """Refuses a rule whose messages need an answer.

    Raises:
        ValueError: it does not work both ways.
    """
    if not rule.works_both_ways:
        raise ValueError(
            "One way goes a rule that works both ways, such as 'elastic'. "
            f"Received: the rule {rule.name!r}. {where_else(rule)}"
        )


def where_else(rule: Rule) -> str:
    """What to do with a rule that a tree does not go by: a sentence."""
    if rule.works_both_ways:
        return "Use the scheme 'up_down', 'multi_scale' or 'answered'."
    if rule.tree_protocols:
        return (
            f"In a virtual cluster use the scheme {rule.tree_protocols[0]!r}."
        )
    return "Use a star, without a tree."


def check_periods(up_period: int | None, down_period: int | None) -> None:
    """Refuses periods that are none; None is for an edge that is not there.

    Raises:
        ValueError: one is no integer of at least 1.
    """
    for name, period in (
        ("up_period", up_period),
        ("down_period", down_period),
    ):
        if period is not None and (type(period) is not int or period < 1):
            raise ValueError(
                f"`{name}` must be an integer >= 1. Received: "
                f"{name}={period!r}."
            )


def check_most_waiting(most_waiting: object) -> None:
    """Refuses a number of waiting messages that is none.

    Raises:
        ValueError: it is no integer of at least 1.
    """
    if type(most_waiting) is not int or most_waiting < 1:
        raise ValueError(
            "`most_waiting` must be an integer >= 1: 1 for the newest message "
            f"alone. Received: most_waiting={most_waiting!r:.80}."
        )


def rates(moving_rate: float) -> Rates:
    """The rates of a node that moves by alpha to whatever comes.

    Args:
        moving_rate: alpha, at least 0; the thesis has 0.9 / (d + 1), of d
            children.

    Raises:
        ValueError: it is negative or not finite.

    Example:

    >>> rates(0.25)
    {'moving_rate': 0.25, 'beta': 0.25, 'num_workers': 1}
    """
    both = elastic_rates(1, moving_rate=moving_rate)
    return rates_by(both.moving_rate)


def rates_by(moving_rate: Array) -> Rates:
    """As `rates`, for an alpha that was checked: a number or a tensor."""
    return {"moving_rate": moving_rate, "beta": moving_rate, "num_workers": 1}


def answered_rates(
    num_children: int,
    beta: float | None = None,
    moving_rate: float | None = None,
) -> Rates:
    """The rates of a child and its parent that answers it.

    Args:
        num_children: d of the parent.
        beta: see `node_rate`.
        moving_rate: see `node_rate`.

    Returns:
        "moving_rate": alpha of the parent, and of a leaf; and beta and p by
        which the parent moves as far.

    Example:

    >>> answered_rates(2)
    {'moving_rate': 0.3, 'beta': 0.6, 'num_workers': 2}
    """
    alpha = node_rate(num_children, beta, moving_rate)
    return {
        "moving_rate": alpha,
        "beta": num_children * alpha,
        "num_workers": num_children,
    }


def told_by(rates_of: Callable[[int], Rates]) -> dict[str, float | None]:
    """The beta, or the alpha, that an optimizer was given.

    Args:
        rates_of: its rates for p workers: alpha is the same for every p if
            it was given.

    Example:

    >>> told_by(lambda p: {"moving_rate": 0.6 / p, "beta": 0.6})
    {'beta': 0.6, 'moving_rate': None}
    """
    two, three = rates_of(2), rates_of(3)
    alpha = float(two["moving_rate"] or 0.0)
    if alpha == float(three["moving_rate"] or 0.0):
        return {"beta": None, "moving_rate": alpha}
    return {"beta": float(two["beta"] or 0.0), "moving_rate": None}


def node_rate(
    num_children: int,
    beta: float | None = None,
    moving_rate: float | None = None,
) -> float:
    r"""Alpha of a node: :math:`\alpha = \beta / (d + 1)`.

    It has d children and a parent to move to. A leaf takes that of its
    parent, and so do all that are below that one.

    Args:
        num_children: d, at least 1.
        beta: of the optimizer; None for 0.9, as in the thesis.
        moving_rate: of the optimizer, if it was given: alpha of all nodes.

    Raises:
        ValueError: a rate is negative or not finite.

    Example:

    >>> round(node_rate(16), 5), node_rate(2, moving_rate=0.1)
    (0.05294, 0.1)

    Reference:
        Zhang (2016), section 6.1.2.
    """
    if moving_rate is not None:
        return moving_rate
    return elastic_rates(num_children + 1, beta=beta).moving_rate


def from_child(
    rule: Rule, message: Array, slots: Slots[Array], rates: Rates
) -> dict[str, Array]:
    """A node after a child's point has arrived: by beta / p.

    Args:
        rule: of the exchange, which works both ways.
        message: the child's point, floating, any shape.
        slots: what the node keeps; arrays of the same shape.
        rates: the node's own, as `Rule.rates_at` gives them.

    Returns:
        The same slots, moved.

    Example:

    >>> from tf_elastic.core import rules
    >>> from_child(rules.Elastic(), 3.0, {"center": 1.0}, rates(0.25))
    {'center': 1.5}
    """
    return orders.collect(rule, slots, [rule.delta(message, slots)], rates)


def from_parent(
    rule: Rule, message: Array, slots: Slots[Array], rates: Rates
) -> dict[str, Array]:
    """A node after its parent's point has arrived: by alpha.

    What a rule has its children keep to themselves (statistics, say) stays.
    For arguments see `from_child`.

    Example:

    >>> from tf_elastic.core import rules
    >>> from_parent(rules.Elastic(), 3.0, {"center": 1.0}, rates(0.25))
    {'center': 1.5}
    """
    point = slots[CENTER]
    settled = orders.come_back(rule, point, point, {CENTER: message}, rates)
    return {**slots, CENTER: settled}


def from_answer(
    rule: Rule, message: Array, slots: Slots[Array], rates: Rates
) -> dict[str, Array]:
    """A node after its parent has answered by the difference, by alpha.

    Args:
        rule: of the exchange.
        message: the node, as it was, less its parent.
        slots: see `from_child`.
        rates: see `from_child`.

    Example:

    >>> from tf_elastic.core import rules
    >>> from_answer(rules.Elastic(), -2.0, {"center": 1.0}, rates(0.25))
    {'center': 1.5}
    """
    return {**slots, CENTER: rule.settle(slots[CENTER], message, rates)}
