"""The optimizers and the uses of the conformance tables, and their print.

`conformance_test.py`, `conformance_options_test.py` and
`conformance_cluster_test.py` take every optimizer through every use;
`docs/methods.md` shows what they have found to be so. A new optimizer joins by
one line in `CASES`, a new use by one in `USES` and a test.
"""

from typing import Any
from typing import NamedTuple

import keras
import pytest

from tf_elastic import optimizers
from tf_elastic.cluster.worker import exchanger
from tf_elastic.optimizers import registry


class Case(NamedTuple):
    """How an optimizer is made, and with how many workers it is tested."""

    make: Any  # make(**options) -> optimizer
    num_workers: int = 2
    wraps: bool = False  # whether options go to an inner optimizer
    squares: bool = False  # each slice of a sparse gradient by itself
    # The case whose code all of `OPTIONS` go through, if not its own.
    like: str | None = None
    # Whether `make test` leaves it out, since others there have all its code;
    # so it does with those that are `like` another. `make test-all` has all.
    full: bool = False
    # {use: (what the refusal says, why in the table)}
    refused: dict[str, tuple[str, str]] = {}


# The uses, in the order of the table; the second half only where the code is
# not that of another case (`Case.like`).
USES = {
    "graph": "graph (`fit`)",
    "eager": "`run_eagerly=True`",
    "steps_per_execution": "`steps_per_execution` > 1",
    "xla": "`jit_compile=True` of the optimizer (of `compile`: refused)",
    "checkpoint": "`tf.train.Checkpoint`, to the bit",
    "backup": "`BackupAndRestore`, to the bit",
    "saved": "`save`, `load_model`, `save_weights`",
    "statistics": "BatchNorm, Dropout",
    "mixed_bfloat16": "`mixed_bfloat16`",
    "mixed_float16": "`mixed_float16` with loss scaling",
    "sparse": "sparse gradients",
    "config": "`get_config`, `from_config`",
}
OPTIONS = {
    "export": "`export`",
    "clipping": "`clipnorm`, `clipvalue`, `global_clipnorm`",
    "accumulation": "`gradient_accumulation_steps`",
    "weight_decay": "`weight_decay`",
    "use_ema": "`use_ema`",
    "train_step": "a `train_step` of one's own",
}
# Those of `ElasticMultiWorkerStrategy`, with center servers.
CLUSTER_USES = {
    **{use: USES[use] for use in ("graph", "eager", "steps_per_execution")},
    "xla": USES["xla"],
    "snapshot": "a center server goes on from its snapshot, to the bit",
    "resumed": "a worker's `tf.train.Checkpoint`",
    "statistics": "BatchNorm",
    **{use: USES[use] for use in ("mixed_bfloat16", "mixed_float16")},
    "sparse": USES["sparse"],
}


def _around(wrapper, inner, learning_rate=0.05, **defaults):
    def make(jit_compile=False, **options):
        return wrapper(
            inner(**{"learning_rate": learning_rate, **options}),
            jit_compile=jit_compile,
            communication_period=3,
            **defaults,
        )

    return make


def _alone(cls, learning_rate=0.05, **defaults):
    def make(**options):
        options = {"jit_compile": False, **defaults, **options}
        return cls(learning_rate, **options)

    return make


def _delayed_sgd(**options):
    return optimizers.DelayedGradient(
        keras.optimizers.SGD(**options),
        delay=optimizers.delays.UniformDelay(0, 3),
    )


_INNER_EMA = {
    "use_ema": (
        "`use_ema` of the inner",
        "it would average each worker, not the center",
    )
}


def _refused(cls):
    """What is registered as refused, and what the refusal says."""
    says = {"weight_decay": "weight_decay=0.3"}
    refuses = registry.of_class(cls).refuses
    return {use: (says[use], why) for use, why in refuses.items()}


_SGD = keras.optimizers.SGD
_PERIOD = {"communication_period": 3}
CASES = {
    "EASGD": Case(_alone(optimizers.EASGD, **_PERIOD), full=True),
    "EAMSGD": Case(_alone(optimizers.EAMSGD, momentum=0.8, **_PERIOD)),
    "EAMSGD(nesterov=False)": Case(
        _alone(optimizers.EAMSGD, momentum=0.8, nesterov=False, **_PERIOD),
        like="EAMSGD",
    ),
    "Elastic(Adam)": Case(
        _around(optimizers.Elastic, keras.optimizers.Adam, 0.03),
        wraps=True,
        squares=True,
        full=True,
        refused=_INNER_EMA,
    ),
    "Elastic(DelayedGradient)": Case(
        _around(optimizers.Elastic, _delayed_sgd),
        wraps=True,
        full=True,
        refused=_INNER_EMA,
    ),
    "AveragedSGD": Case(_alone(optimizers.AveragedSGD), num_workers=1),
    "MovingAverageSGD": Case(
        _alone(optimizers.MovingAverageSGD, averaging_rate=0.2),
        num_workers=1,
        like="AveragedSGD",
    ),
    "Downpour": Case(
        _alone(optimizers.Downpour, **_PERIOD), like="MVADownpour"
    ),
    "ADownpour": Case(
        _alone(optimizers.ADownpour, **_PERIOD), like="MVADownpour"
    ),
    "MVADownpour": Case(
        _alone(optimizers.MVADownpour, averaging_rate=0.3, **_PERIOD)
    ),
    "MDownpour": Case(
        _alone(optimizers.MDownpour, 0.01, momentum=0.8),
        like="AsyncMSGD",
        refused=_refused(optimizers.MDownpour),
    ),
    "AsyncMSGD": Case(
        _alone(
            optimizers.AsyncMSGD,
            momentum=0.5,
            staleness_scaling=True,
            delay_compensation=0.1,
        ),
        refused=_refused(optimizers.AsyncMSGD),
    ),
    "SyncSGD": Case(
        _alone(optimizers.SyncSGD, momentum=0.8),
        like="AsyncMSGD",
        refused=_refused(optimizers.SyncSGD),
    ),
    "LocalSGD(SGD)": Case(
        _around(optimizers.LocalSGD, _SGD),
        wraps=True,
        like="DiLoCo(SGD)",
        refused=_INNER_EMA,
    ),
    "LocalSGD(DelayedGradient)": Case(
        _around(optimizers.LocalSGD, _delayed_sgd),
        wraps=True,
        like="Elastic(DelayedGradient)",
        refused=_INNER_EMA,
    ),
    "DiLoCo(SGD)": Case(
        _around(optimizers.DiLoCo, _SGD), wraps=True, refused=_INNER_EMA
    ),
    "DiLoCo(DelayedGradient)": Case(
        _around(optimizers.DiLoCo, _delayed_sgd),
        wraps=True,
        like="Elastic(DelayedGradient)",
        refused=_INNER_EMA,
    ),
    "AsyncDiLoCo(SGD)": Case(
        _around(optimizers.AsyncDiLoCo, _SGD),
        wraps=True,
        like="DiLoCo(SGD)",
        refused=_INNER_EMA,
    ),
    "HeLoCo(SGD)": Case(
        _around(optimizers.HeLoCo, _SGD),
        wraps=True,
        like="DiLoCo(SGD)",
        refused=_INNER_EMA,
    ),
    "HALoS(SGD)": Case(
        _around(optimizers.HALoS, _SGD),
        wraps=True,
        like="DiLoCo(SGD)",
        refused=_INNER_EMA,
    ),
    "ADMM": Case(
        _alone(optimizers.ADMM, elasticity=1.0, **_PERIOD),
        refused=_refused(optimizers.ADMM),
    ),
}

# Uses of which only the code matters, which a case may share with another.
_BY_CODE = {
    *("xla", "saved", "mixed_bfloat16", "mixed_float16", "sparse"),
    *OPTIONS,
}
# What goes through the same code, {use: {case: that which shows it}}.
_SAME = {
    "export": dict.fromkeys(CASES, "EAMSGD") | {"MVADownpour": "MVADownpour"},
    "train_step": dict.fromkeys(CASES, "EAMSGD")
    | {"AsyncMSGD": "AsyncMSGD", "DiLoCo(SGD)": "DiLoCo(SGD)"},
    "use_ema": {
        "EASGD": "EAMSGD",
        "AveragedSGD": "EAMSGD",
        "ADMM": "AsyncMSGD",
    },
}
# Cells of rows in `make test` that it leaves out, {use: cases}: their code is
# in cells that it has.
_FULL = {
    "eager": {"AveragedSGD", "MVADownpour", "AsyncMSGD"},
    "steps_per_execution": {"AveragedSGD", "MVADownpour"},
    "xla": {"AveragedSGD", "MVADownpour", "DiLoCo(SGD)", "ADMM"},
    "backup": {
        *("AveragedSGD", "MVADownpour", "AsyncMSGD", "DiLoCo(SGD)", "ADMM")
    },
    "mixed_bfloat16": {
        *("EAMSGD", "AveragedSGD", "MVADownpour", "AsyncMSGD", "DiLoCo(SGD)")
    },
    "mixed_float16": {"AveragedSGD", "MVADownpour", "AsyncMSGD", "ADMM"},
    "sparse": {"AveragedSGD", "MVADownpour", "DiLoCo(SGD)"},
    "snapshot": {"AveragedSGD", "MVADownpour", "DiLoCo(SGD)"},
    "resumed": {"AveragedSGD", "MVADownpour", "DiLoCo(SGD)"},
    "clipping": {"AveragedSGD", "MVADownpour", "ADMM"},
    "accumulation": {"AveragedSGD", "MVADownpour", "ADMM"},
    "weight_decay": {"AveragedSGD", "MVADownpour"},
}


def tier(case, *uses):
    """The first of the two commands that has it, or one of these uses of it."""
    if case.full or case.like:
        return "test-all"
    left_out = [is_left_out(case, use) for use in uses]
    return "test-all" if left_out and all(left_out) else "test"


def is_left_out(case, use):
    """Whether `make test` leaves out this cell of a row that it has."""
    return name_of(case) in _FULL.get(use, ())


def name_of(case):
    """Its name in the tables."""
    return next(name for name, other in CASES.items() if other is case)


def params(chosen=None):
    """Cases to parametrize with, each in its tier; all of them by default."""
    return [
        pytest.param(
            case,
            id=name,
            marks=[pytest.mark.full] if tier(case) == "test-all" else [],
        )
        for name, case in (chosen or CASES).items()
    ]


def shown_by(name, use):
    """The case that shows a use for this one: often itself."""
    if use in _BY_CODE:
        name = CASES[name].like or name
    return _SAME.get(use, {}).get(name, name)


def shows_itself(case, *uses):
    """Whether a case is the one that shows a use, not another one like it."""
    name = name_of(case)
    return any(shown_by(name, use) == name for use in uses)


def shows_xla_too(case):
    """Whether what shows several steps per execution has XLA as well."""
    return shows_itself(case, "xla") and not is_left_out(case, "xla")


# {module: {use: the test that shows it}}, as `shows` has collected them.
SHOWN = {}


def shows(*uses, of=lambda case: True):
    """Marks a test as the one that shows that uses are so, of some cases.

    Of a test with the fixture `case`, `conftest.py` leaves out those cases
    for which another one shows all the uses, and leaves to `make test-all`
    those that are of that tier; a parameter `use` is the one that is shown.
    """

    def register(test):
        SHOWN.setdefault(test.__module__, {}).update(
            dict.fromkeys(uses, test.__name__)
        )
        test.is_for = lambda case: of(case) and shows_itself(case, *uses)
        test.tier = lambda case, use=None: tier(case, *([use] if use else uses))
        return test

    return register


def _markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(name, uses):
    refused = CASES[name].refused
    for use in uses:
        if use in refused:
            yield f"refused: {refused[use][1]}"
        else:
            same = shown_by(name, use)
            case = CASES[name]
            if same != name:
                yield f"as `{same}`"
            elif tier(case, use) == tier(case):
                yield "yes"
            else:
                yield f"yes, `make {tier(case, use)}`"


def markdown_table():
    """What is tested on the devices of one process, as the docs show it."""
    uses = USES | OPTIONS
    return _markdown(
        ["optimizer", "tier", *uses.values()],
        [
            [f"`{name}`", f"`make {tier(case)}`", *_cells(name, uses)]
            for name, case in CASES.items()
        ],
    )


def cluster_markdown_table():
    """What is tested on a cluster, likewise."""
    head = [
        "optimizer",
        "tier",
        *CLUSTER_USES.values(),
        *(f'`protocol="{protocol}"`' for protocol in exchanger.PROTOCOLS),
        "`MultiWorkerMirroredStrategy`",
    ]
    rows = []
    for name, case in CASES.items():
        method = case.make().method
        protocols = [
            "yes" if protocol in method.protocols else "refused"
            for protocol in exchanger.PROTOCOLS
        ]
        rows.append(
            [
                f"`{name}`",
                f"`make {tier(case)}`",
                *_cells(name, CLUSTER_USES),
                *protocols,
                "refused",
            ]
        )
    others = len(CLUSTER_USES) + len(exchanger.PROTOCOLS)
    refused = ["refused: `Elastic` around it"] * others
    rows.append(["one of Keras' own", "`make test`", *refused, "yes"])
    return _markdown(head, rows)
