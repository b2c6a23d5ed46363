"""What the papers run: methods, their learning rates, and a run's setting.

>>> METHODS["EAMSGD"].rates
(0.01, 0.005, 0.001)
>>> Setting("EAMSGD", 4, 10, 0.005).name
'EAMSGD-p4-tau10-0.005'
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

CIFAR, IMAGENET, MOMENTUM = "cifar", "imagenet", "momentum"
# Chapter 6: in batches of 16, and image by image.
LOWRANK, SINGLE = "lowrank", "lowrank-single"
# Of EASGD and EAMSGD where p is varied (section 4.2).
LONG_PERIOD = 10


class Method(NamedTuple):
    """A method, as a paper has it.

    Attributes:
        optimizer: its name in `tf_elastic.optimizers`.
        arguments: of the optimizer, beside the rate.
        rates: those tried; on CIFAR, of Tables 4.1 and 4.2.
        imagenet_rates: those of Table 4.3, by p; 0 for any.
        is_sequential: one worker, which has nobody to exchange with.
        has_period: whether tau is a choice.
        averages: whether the answer is an average over time.
        scheme: of a tree; empty where all workers are at the center.
    """

    optimizer: str
    arguments: Mapping[str, Any]
    rates: tuple[float, ...]
    imagenet_rates: Mapping[int, float] = {}
    is_sequential: bool = False
    has_period: bool = False
    averages: bool = False
    scheme: str = ""


_SGD = (0.05, 0.01, 0.005)
_DOWNPOUR = (0.005, 0.001, 0.0005)
_MOMENTUM = {"momentum": 0.99}

# Of chapter 4.
METHODS: Mapping[str, Method] = {
    # One worker that gives all it does to the center, at each step.
    "SGD": Method("Downpour", {}, _SGD, {0: 0.05}, is_sequential=True),
    "MSGD": Method(
        "EAMSGD",
        {
            **_MOMENTUM,
            "moving_rate": 0.0,
            "beta": 1.0,
            "symmetric": False,
            "communication_period": 1,
        },
        (0.001, 0.0005, 0.0001),
        {0: 0.0005},
        is_sequential=True,
    ),
    "ASGD": Method(
        "AveragedSGD", {}, _SGD, {0: 0.05}, is_sequential=True, averages=True
    ),
    "MVASGD": Method(
        "MovingAverageSGD",
        {"averaging_rate": 0.001},
        _SGD,
        {0: 0.05},
        is_sequential=True,
        averages=True,
    ),
    "DOWNPOUR": Method(
        "Downpour", {}, _DOWNPOUR, {4: 0.02, 8: 0.01}, has_period=True
    ),
    "ADOWNPOUR": Method(
        "ADownpour", {}, _DOWNPOUR, has_period=True, averages=True
    ),
    "MVADOWNPOUR": Method(
        "MVADownpour",
        {"averaging_rate": 0.001},
        _DOWNPOUR,
        has_period=True,
        averages=True,
    ),
    "MDOWNPOUR": Method("MDownpour", _MOMENTUM, (5e-5, 1e-5, 5e-6)),
    "EASGD": Method("EASGD", {}, _SGD, {0: 0.1}, has_period=True),
    "EAMSGD": Method(
        "EAMSGD", _MOMENTUM, (0.01, 0.005, 0.001), {0: 0.001}, has_period=True
    ),
}
SEQUENTIAL = tuple(n for n, m in METHODS.items() if m.is_sequential)

# Of Figure 2 of the momentum paper. Its rate is 0.2, for a network with
# normalisation; the one here has none.
MOMENTA: Mapping[str, Method] = {
    f"AsyncMSGD{momentum}": Method("AsyncMSGD", {"momentum": momentum}, (0.02,))
    for momentum in (0.1, 0.3, 0.5, 0.7, 0.9)
}
# Of chapter 6, by scheme and momentum.
TREES: Mapping[str, Method] = {
    f"Tree{number}-{momentum:g}": Method(
        "EAMSGD" if momentum else "EASGD",
        {"momentum": momentum} if momentum else {},
        (rate,),
        has_period=True,
        scheme=scheme,
    )
    for number, scheme in ((1, "multi_scale"), (2, "up_down"))
    for momentum, rate in ((0.0, 5e-2), (0.9, 5e-3), (0.99, 5e-4))
}
ALL: Mapping[str, Method] = {**METHODS, **MOMENTA, **TREES}


class Setting(NamedTuple):
    """A run, but for how long it is and what it is trained on.

    Attributes:
        method: of `ALL`.
        workers: p.
        period: tau; 1 where the method has none. Of a tree the first of two,
            of which the second is ten times as long.
        learning_rate: eta.
        decay: gamma of Figure 4.13.
        seed: of weights, data and times.
        experiment: CIFAR to SINGLE: penalty, times, and what is done with
            rates and averages.
    """

    method: str
    workers: int
    period: int
    learning_rate: float
    decay: float = 0.0
    seed: int = 0
    experiment: str = CIFAR

    @property
    def name(self) -> str:
        """For files and for those who choose."""
        parts = [
            self.method,
            f"p{self.workers}",
            f"tau{self.period}",
            f"{self.learning_rate:g}",
        ]
        if self.decay:
            parts.append(f"decay{self.decay:g}")
        if self.seed:
            parts.append(f"seed{self.seed}")
        if self.experiment != CIFAR:
            parts.insert(0, self.experiment)
        return "-".join(parts)


def settings(
    methods: Sequence[str],
    workers: int,
    period: int | None = None,
    experiment: str = CIFAR,
) -> Iterator[Setting]:
    """Methods with all their learning rates.

    Args:
        methods: of `ALL`.
        workers: p of those that are not sequential.
        period: tau of those that have one; None for section 4.2's: 10 for the
            elastic ones, 1 for the others.
        experiment: CIFAR, IMAGENET or MOMENTUM.
    """
    for name in methods:
        method = ALL[name]
        p = 1 if method.is_sequential else workers
        tau = 1
        if method.has_period:
            own = LONG_PERIOD if name in ("EASGD", "EAMSGD") else 1
            tau = own if period is None else period
        rates: Sequence[float] = method.rates
        if experiment == IMAGENET:
            known = method.imagenet_rates
            rates = [known[0] if 0 in known else known[p]]
        for rate in rates:
            yield Setting(name, p, tau, rate, experiment=experiment)
