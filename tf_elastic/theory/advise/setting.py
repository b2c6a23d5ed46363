"""What the advisor is asked about: a method and all of its numbers, checked."""

from typing import Any
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.core import momentum_control
from tf_elastic.core import rules
from tf_elastic.theory import _checks

Array = NDArray[np.float64]
Rate = float | Array

# How workers and center meet. What a cluster calls "synchronous" or
# "blocking" is one of these; see `Rule.meetings`.
JACOBI = "jacobi"
GAUSS_SEIDEL = "gauss_seidel"
ROUND_ROBIN = "round_robin"
OVERLAPPED = "overlapped"

# What is exchanged.
ELASTIC = "elastic"  # workers and center attract each other
UPDATE = "update"  # the way since the worker last read
GRADIENT = "gradient"
MEAN = "mean"  # all go on from where the mean takes the center
ADMM = "admm"
NOTHING = "nothing"

_INTERVALS = 8  # between the smallest and the largest curvature


class Rule(NamedTuple):
    """What the advisor knows of a method."""

    exchange: str  # ELASTIC to NOTHING
    meetings: dict[str, str]  # protocol -> meeting; the first is the default
    period: int = 1  # the default
    momentum: float | None = 0.0  # the default; None: by the workers
    nesterov: bool = False
    center_rule: rules.Rule = rules.Add()

    @property
    def has_momentum(self) -> bool:
        """Whether a momentum has a meaning."""
        return self.exchange in (ELASTIC, GRADIENT, MEAN)

    @property
    def has_outer_rates(self) -> bool:
        """Whether the center's step has a rate and a momentum of its own."""
        own = (rules.OuterNesterov, rules.DelayedNesterov)
        return isinstance(self.center_rule, own)


_ELASTIC = Rule(
    ELASTIC,
    {
        "jacobi": JACOBI,
        "gauss_seidel": GAUSS_SEIDEL,
        "round_robin": ROUND_ROBIN,
        "overlapped": OVERLAPPED,
        "blocking": ROUND_ROBIN,
        "synchronous": JACOBI,
    },
    period=10,
)
_DOWNPOUR = Rule(
    UPDATE,
    {
        "round_robin": ROUND_ROBIN,
        "gauss_seidel": GAUSS_SEIDEL,
        "blocking": ROUND_ROBIN,
        "overlapped": OVERLAPPED,
        "synchronous": GAUSS_SEIDEL,
    },
)
_GRADIENT = Rule(
    GRADIENT,
    {
        "round_robin": ROUND_ROBIN,
        "blocking": ROUND_ROBIN,
        "overlapped": OVERLAPPED,
    },
    momentum=None,
    center_rule=rules.HeavyBall(),
)
_MEAN = Rule(
    MEAN,
    {"gauss_seidel": GAUSS_SEIDEL, "synchronous": GAUSS_SEIDEL},
    period=10,
    center_rule=rules.Mean(),
)
_ALONE = Rule(NOTHING, {**_ELASTIC.meetings})

RULES: dict[str, Rule] = {
    "EASGD": _ELASTIC,
    "EAMSGD": _ELASTIC._replace(momentum=0.99, nesterov=True),
    "Elastic": _ELASTIC,
    "AveragedSGD": _ALONE,
    "MovingAverageSGD": _ALONE,
    "Downpour": _DOWNPOUR,
    "ADownpour": _DOWNPOUR,
    "MVADownpour": _DOWNPOUR,
    "MDownpour": _GRADIENT._replace(
        momentum=0.99,
        nesterov=True,
        center_rule=rules.Nesterov(),
    ),
    "AsyncMSGD": _GRADIENT,
    "SyncSGD": Rule(
        GRADIENT,
        {"gauss_seidel": GAUSS_SEIDEL, "synchronous": GAUSS_SEIDEL},
        center_rule=rules.HeavyBall(),  # of the mean of equal gradients
    ),
    "LocalSGD": _MEAN,
    "DiLoCo": _MEAN._replace(
        period=50,
        center_rule=rules.OuterNesterov(),
    ),
    "AsyncDiLoCo": _DOWNPOUR._replace(
        meetings={
            "round_robin": ROUND_ROBIN,
            "blocking": ROUND_ROBIN,
            "overlapped": OVERLAPPED,
        },
        period=50,
        center_rule=rules.DelayedNesterov(),  # N = p, and c = 0
    ),
    "ADMM": Rule(ADMM, {"round_robin": ROUND_ROBIN, "blocking": ROUND_ROBIN}),
}


class Setting(NamedTuple):
    """A method and its numbers.

    The rates may be arrays of shape (n,): n settings at once.
    """

    name: str  # in `RULES`
    protocol: str  # a key of the rule's `meetings`
    num_workers: int  # p
    communication_period: int  # tau
    learning_rate: Rate  # eta
    moving_rate: Rate  # alpha
    beta: Rate
    momentum: Rate  # delta or mu
    nesterov: bool
    symmetric: bool  # whether beta = p alpha is to be kept
    elasticity: Rate  # rho, of ADMM
    outer_learning_rate: Rate  # where the rule `has_outer_rates`
    outer_momentum: Rate  # likewise
    delays: tuple[int, ...]  # in updates of the center
    weights: tuple[float, ...]  # how often each occurs
    steady: bool  # whether the delays are levels, not drawn at each update

    @property
    def rule(self) -> Rule:
        """What is known of the method."""
        return RULES[self.name]

    @property
    def meeting(self) -> str:
        """How workers and center meet."""
        return self.rule.meetings[self.protocol]

    def changed(self, argument: str, value: Rate) -> "Setting":
        """The setting with another value of an argument.

        With the elastic symmetry `beta` follows `moving_rate`.
        """
        replaced: dict[str, Any] = {argument: value}
        changed = self._replace(**replaced)
        if argument == "moving_rate" and self.symmetric:
            changed = changed._replace(beta=self.num_workers * value)
        return changed


def expected_staleness(protocol: str, num_workers: int) -> int:
    """How late a gradient is among equal workers that push each one.

    Args:
        protocol: in which a worker gets its answer at once, or, "overlapped",
            with its next push; or "gauss_seidel", in which all meet.
        num_workers: p.

    Returns:
        The center's updates between the read and the push: p - 1, overlapped
        2 p - 1, and 0 where all meet.

    Example:

    >>> expected_staleness("blocking", 4), expected_staleness("overlapped", 4)
    (3, 7)
    """
    if protocol == GAUSS_SEIDEL:
        return 0
    return (2 if protocol == OVERLAPPED else 1) * num_workers - 1


def make_setting(
    *,
    rule: str,
    protocol: str | None,
    num_workers: int,
    communication_period: int | None,
    learning_rate: float,
    moving_rate: float | None,
    beta: float | None,
    momentum: float | None,
    nesterov: bool | None,
    elasticity: float,
    outer_learning_rate: float,
    outer_momentum: float,
    staleness: ArrayLike | None,
) -> Setting:
    """A checked setting, its defaults filled in; see `advise`.

    Raises:
        ValueError: an argument is out of its range.
    """
    if rule not in RULES:
        raise ValueError(
            f"`rule` must be one of {tuple(RULES)}. Received: rule={rule!r}."
        )
    known = RULES[rule]
    protocols = tuple(known.meetings)
    protocol = protocols[0] if protocol is None else protocol
    _checks.require(
        protocol in known.meetings,
        f"one of {protocols} with {rule}",
        protocol=protocol,
    )
    p = _checks.whole_number("num_workers", num_workers)
    _checks.require(
        known.exchange != NOTHING or p == 1,
        f"1, since {rule} is a sequential method",
        num_workers=num_workers,
    )
    if communication_period is None:
        communication_period = known.period
    period = _checks.whole_number("communication_period", communication_period)
    _checks.require(
        period == 1 or known.exchange not in (GRADIENT, NOTHING),
        f"1 with {rule}, which has no other",
        communication_period=period,
    )
    _checks.positive(
        learning_rate=learning_rate,
        elasticity=elasticity,
        outer_learning_rate=outer_learning_rate,
    )
    delta = known.momentum if momentum is None else momentum
    if delta is None:
        delta = momentum_control.default_momentum(p)
    momenta = {"momentum": delta, "outer_momentum": outer_momentum}
    for name, value in momenta.items():
        _checks.require(0 <= value < 1, "in [0, 1)", **{name: value})
    _checks.require(
        delta == 0 or known.has_momentum,
        f"0 with {rule}, which has none",
        momentum=momentum,
    )
    symmetric = moving_rate is None or beta is None
    rates = core.elastic_rates(p, moving_rate, beta, symmetric)
    delays, weights, steady = _delays(staleness, protocol, p, known)
    return Setting(
        rule,
        protocol,
        p,
        period,
        float(learning_rate),
        rates.moving_rate,
        rates.beta,
        float(delta),
        known.nesterov if nesterov is None else bool(nesterov),
        symmetric,
        float(elasticity),
        float(outer_learning_rate),
        float(outer_momentum),
        delays,
        weights,
        steady,
    )


def _delays(
    staleness: ArrayLike | None, protocol: str, p: int, rule: Rule
) -> tuple[tuple[int, ...], tuple[float, ...], bool]:
    """The delays, how often each occurs, and whether they are levels."""
    pushes = rule.exchange == GRADIENT
    meeting = rule.meetings[protocol]
    if staleness is None or (pushes and meeting == GAUSS_SEIDEL):
        expected = expected_staleness(meeting, p) if pushes else 0
        return (expected,), (1.0,), True
    late = _checks.at_least("staleness", staleness, 0)
    _checks.require(
        late.ndim <= 1 and late.size > 0,
        "a number or a sequence of them",
        staleness=staleness,
    )
    if late.ndim == 0 or not pushes:
        # An expectation: both of the whole numbers around it must be stable.
        # Of elastic exchanges the latest one in twenty.
        level = float(late if late.ndim == 0 else np.quantile(late, 0.95))
        around = sorted({int(np.floor(level)), int(np.ceil(level))})
        return tuple(around), (1 / len(around),) * len(around), True
    _checks.whole(0, staleness=staleness)
    values, counts = np.unique(late.astype(np.int64), return_counts=True)
    return (
        tuple(int(value) for value in values),
        tuple(float(count) / late.size for count in counts),
        len(values) == 1,
    )


def make_curvatures(curvature: ArrayLike) -> Array:
    """The eigenvalues to look at.

    Args:
        curvature: a number; a tuple of two, the smallest and the largest; or
            a list or an array of eigenvalues.

    Returns:
        Ascending, shape (n,). Between the smallest and the largest several
        are taken, in steps of equal ratio.

    Raises:
        ValueError: one is not positive.

    Example:

    >>> make_curvatures(2.0), make_curvatures([3.0, 1.0])
    (array([2.]), array([1., 3.]))
    >>> print(make_curvatures((1.0, 256.0)))
    [  1.   2.   4.   8.  16.  32.  64. 128. 256.]
    """
    _checks.positive(curvature=curvature)
    if isinstance(curvature, tuple) and len(curvature) == 2:
        low, high = sorted(float(value) for value in curvature)
        return np.geomspace(low, high, _INTERVALS + 1)
    values = np.unique(np.asarray(curvature, np.float64))
    _checks.require(values.size > 0, "at least one number", curvature=curvature)
    return values
