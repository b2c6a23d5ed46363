"""Every method of the package in one table.

What a strategy refuses, what the tests count on the wire and what the docs
print are read from here.
"""

from typing import NamedTuple

# Orders in which the workers of one process and their center move.
JACOBI = "jacobi"
GAUSS_SEIDEL = "gauss_seidel"
ROUND_ROBIN = "round_robin"

# Protocols of a cluster.
OVERLAPPED = "overlapped"
BLOCKING = "blocking"
SYNCHRONOUS = "synchronous"


class Method(NamedTuple):
    """What a method does, needs and is good for.

    Bytes and memory are in copies of the trainable parameters.
    """

    rule: str  # the exchange, as a formula
    schemes: tuple[str, ...]  # of one process; the first is the default
    protocols: tuple[str, ...]  # of a cluster; the first is the default
    refusal: str  # why there is no other
    up: str  # what a worker sends in an exchange
    down: str  # what it gets
    copies_up: int
    copies_down: int
    worker_memory: int  # beside its parameters and their gradients
    center_memory: int  # beside its parameters; in one process for each device
    center_memory_per_worker: int
    stable: str
    use: str
    reference: str


_ELASTIC = Method(
    rule="x_i -= alpha (x_i - c);  c += beta / p (x_i - c)",
    schemes=(JACOBI, GAUSS_SEIDEL, ROUND_ROBIN),
    protocols=(OVERLAPPED, BLOCKING, SYNCHRONOUS),
    refusal="",
    up="parameters",
    down="difference",
    copies_up=1,
    copies_down=1,
    worker_memory=1,
    center_memory=0,
    center_memory_per_worker=0,
    stable="eta h <= 2; alpha <= (4 - 2 eta h) / (4 - eta h)",
    use="the default: long periods, slow networks",
    reference="Zhang (2016), Algorithm 1",
)
_AVERAGED = _ELASTIC._replace(
    rule="z += a (x - z)",
    stable="eta h < 2",
    use="one worker: the sequential baseline of the thesis",
    reference="Zhang (2016), chapter 4",
)
_DOWNPOUR = Method(
    rule="c += x_i - read_i;  x_i = read_i = c",
    schemes=(ROUND_ROBIN, GAUSS_SEIDEL),
    protocols=(BLOCKING, OVERLAPPED, SYNCHRONOUS),
    refusal=(
        "DOWNPOUR's workers go on from the center as it is after their own "
        "push, which is the Gauss-Seidel form (eq. 6.3)"
    ),
    up="update",
    down="parameters",
    copies_up=1,
    copies_down=1,
    worker_memory=2,
    center_memory=0,
    center_memory_per_worker=0,
    stable="about p tau eta h < 2: short periods only",
    use="tau = 1 to 4, few workers; the comparator of the thesis",
    reference="Zhang (2016), Algorithm 3",
)
_GRADIENT_REFUSAL = (
    "it is a rule for gradients that come one after another: every push is an "
    "update of its own"
)
_MEAN_REFUSAL = (
    "it needs the mean over all workers, so they have to meet"
)

METHODS: dict[str, Method] = {
    "EASGD": _ELASTIC,
    "EAMSGD": _ELASTIC._replace(
        worker_memory=2,
        stable="as EASGD; momentum narrows eta h (docs/theory.md)",
        use="the default for deep networks; momentum 0.99",
        reference="Zhang (2016), Algorithm 2",
    ),
    "Elastic": _ELASTIC._replace(
        stable="as EASGD, with the inner optimizer's own limits",
        use="Adam, AdamW or any other Keras optimizer as the local step",
        reference="Zhang (2016), Algorithm 1, another local step",
    ),
    "ElasticOptimizer": _ELASTIC._replace(use="a base for your own"),
    "ASGD": _AVERAGED._replace(rule="z += (x - z) / (t + 1)"),
    "MVASGD": _AVERAGED,
    "Downpour": _DOWNPOUR,
    "ADownpour": _DOWNPOUR._replace(
        rule="as Downpour;  z += (c - z) / (t + 1), z is the answer",
        center_memory=1,
        use="as Downpour, where the end is noisy",
        reference="Zhang (2016), chapter 4",
    ),
    "MVADownpour": _DOWNPOUR._replace(
        rule="as Downpour;  z += a (c - z), z is the answer",
        center_memory=1,
        use="as ADownpour, and the average forgets",
        reference="Zhang (2016), chapter 4",
    ),
    "MDownpour": Method(
        rule="v = delta v - eta g_i;  c += v;  x_i = c + delta v",
        schemes=(ROUND_ROBIN,),
        protocols=(BLOCKING, OVERLAPPED),
        refusal=_GRADIENT_REFUSAL,
        up="gradient",
        down="look-ahead point",
        copies_up=1,
        copies_down=1,
        worker_memory=2,
        center_memory=1,
        center_memory_per_worker=0,
        stable="staleness <= C (1 - delta)^2 / sqrt(eta)",
        use="the comparator of the thesis; exchanges at every step",
        reference="Zhang (2016), Algorithms 4 and 5",
    ),
    "AsyncMSGD": Method(
        rule="c += -eta g_i + mu (c - c_before);  x_i = c",
        schemes=(ROUND_ROBIN,),
        protocols=(BLOCKING, OVERLAPPED),
        refusal=_GRADIENT_REFUSAL,
        up="gradient",
        down="parameters",
        copies_up=1,
        copies_down=1,
        worker_memory=2,
        center_memory=1,
        center_memory_per_worker=0,
        stable="staleness <= C (1 - mu)^2 / sqrt(eta)",
        use="fast networks, small models; exchanges at every step; with "
        "`delay_compensation` a center server keeps two copies for each worker",
        reference="Liu et al. (2018), eq. 1.3",
    ),
    "LocalSGD": Method(
        rule="c = mean of x_i;  x_i = c",
        schemes=(GAUSS_SEIDEL,),
        protocols=(SYNCHRONOUS,),
        refusal=_MEAN_REFUSAL,
        up="parameters",
        down="parameters",
        copies_up=1,
        copies_down=1,
        worker_memory=1,
        center_memory=0,
        center_memory_per_worker=0,
        stable="that of the local step",
        use="equal workers that may wait for each other",
        reference="Stich (2019); McMahan et al. (2017), without sampling",
    ),
    "DiLoCo": Method(
        rule="d = mean of x_i - c;  v = mu v + d;  c += eta_o (d + mu v);  "
        "x_i = c",
        schemes=(GAUSS_SEIDEL,),
        protocols=(SYNCHRONOUS,),
        refusal=_MEAN_REFUSAL,
        up="parameters",
        down="parameters",
        copies_up=1,
        copies_down=1,
        worker_memory=1,
        center_memory=1,
        center_memory_per_worker=0,
        stable="eta_o < 2 (1 + mu) / (1 + 2 mu) on the averaged step",
        use="AdamW inside, periods of 50 to 500 steps, equal workers",
        reference="Douillard et al. (2023), Algorithm 1",
    ),
    "ADMM": Method(
        rule="l_i -= x_i - c;  x_i = (x_i - eta g_i + eta rho (l_i + c)) / "
        "(1 + eta rho);  c = mean of x_i - l_i",
        schemes=(ROUND_ROBIN,),
        protocols=(BLOCKING,),
        refusal=(
            "the thesis defines it for workers that are served one after "
            "another (eqs. 3.52 to 3.54)"
        ),
        up="difference",
        down="parameters",
        copies_up=1,
        copies_down=1,
        worker_memory=5,
        center_memory=0,
        center_memory_per_worker=0,
        stable="no closed form; `theory.round_robin.admm_map`; it has gaps",
        use="a comparator",
        reference="Zhang (2016), eqs. 3.52 to 3.54",
    ),
}


def check_choice(
    name: str, argument: str, choice: str, allowed: tuple[str, ...]
) -> None:
    """Refuses an exchange that a method has not.

    Args:
        name: of the method, in `METHODS`.
        argument: of the strategy, for the message.
        choice: what the strategy was given.
        allowed: what the method has.

    Raises:
        ValueError: `choice` is not among them.
    """
    if choice not in allowed:
        raise ValueError(
            f"{name} has no `{argument}={choice!r}`: {METHODS[name].refusal}. "
            f"Received: {argument}={choice!r}. Use one of {allowed}, or leave "
            f"`{argument}` out of the strategy."
        )


def markdown_table() -> str:
    """The methods as the docs show them: a Markdown table.

    Example:

    >>> print(markdown_table().splitlines()[1])
    | --- | --- | --- | --- | --- | --- | --- | --- |
    """
    rows = [
        (
            "optimizer",
            "rule",
            "orders, protocols",
            "up, down",
            "memory: worker, center",
            "stable",
            "when to use",
            "reference",
        )
    ]
    rows.append(("---",) * len(rows[0]))
    for name, method in METHODS.items():
        if name == "ElasticOptimizer":  # A base class.
            continue
        per_worker = method.center_memory_per_worker
        rows.append(
            (
                f"`{name}`",
                f"`{method.rule}`",
                f"{', '.join(method.schemes)}; {', '.join(method.protocols)}",
                f"{method.up} ({method.copies_up} P), "
                f"{method.down} ({method.copies_down} P)",
                f"{method.worker_memory} P, {method.center_memory} P"
                + (f" + {per_worker} P for each worker" if per_worker else ""),
                method.stable,
                method.use,
                method.reference,
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
