"""The optimizers and the uses of the conformance table, and its print.

`conformance_test.py` and `conformance_options_test.py` take every optimizer
through every use; `docs/methods.md` shows what they have found to be so. A new
optimizer joins by one line in `CASES`, a new use by one in `USES` and a test.
"""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies


class Case(NamedTuple):
    """How an optimizer is made, and with how many workers it is tested."""

    make: Any  # make(**options) -> optimizer
    num_workers: int = 2
    wraps: bool = False  # whether options go to an inner optimizer
    # The case whose code all of `OPTIONS` go through, if not its own.
    like: str | None = None
    # {use: (what the refusal says, why in the table)}
    refused: dict[str, tuple[str, str]] = {}


# The uses, in the order of the table; the second half only where the code is
# not that of another case (`Case.like`).
USES = {
    "graph": "graph (`fit`)",
    "eager": "`run_eagerly=True`",
    "steps_per_execution": "`steps_per_execution` > 1",
    "xla": "`jit_compile=True`",
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
        keras.optimizers.SGD(**options), optimizers.delays.UniformDelay(0, 3)
    )


_INNER_EMA = {
    "use_ema": (
        "`use_ema` of the inner",
        "it would average each worker, not the center",
    )
}
_NO_DECAY = {
    "weight_decay": ("weight_decay=0.3", "what is sent is a gradient")
}
_NO_DECAY_ADMM = {
    "weight_decay": ("weight_decay=0.3", "its step is one to the center")
}

_SGD = keras.optimizers.SGD
_PERIOD = {"communication_period": 3}
CASES = {
    "EASGD": Case(_alone(optimizers.EASGD, **_PERIOD)),
    "EAMSGD": Case(_alone(optimizers.EAMSGD, momentum=0.8, **_PERIOD)),
    "EAMSGD(nesterov=False)": Case(
        _alone(optimizers.EAMSGD, momentum=0.8, nesterov=False, **_PERIOD),
        like="EAMSGD",
    ),
    "Elastic(Adam)": Case(
        _around(optimizers.Elastic, keras.optimizers.Adam, 0.03),
        wraps=True,
        refused=_INNER_EMA,
    ),
    "Elastic(DelayedGradient)": Case(
        _around(optimizers.Elastic, _delayed_sgd),
        wraps=True,
        refused=_INNER_EMA,
    ),
    "ASGD": Case(_alone(optimizers.ASGD), num_workers=1),
    "MVASGD": Case(
        _alone(optimizers.MVASGD, averaging_rate=0.2),
        num_workers=1,
        like="ASGD",
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
        refused=_NO_DECAY,
    ),
    "AsyncMSGD": Case(
        _alone(
            optimizers.AsyncMSGD,
            momentum=0.5,
            staleness_scaling=True,
            delay_compensation=0.1,
        ),
        refused=_NO_DECAY,
    ),
    "LocalSGD(SGD)": Case(
        _around(optimizers.LocalSGD, _SGD),
        wraps=True,
        like="DiLoCo(SGD)",
        refused=_INNER_EMA,
    ),
    "DiLoCo(SGD)": Case(
        _around(optimizers.DiLoCo, _SGD), wraps=True, refused=_INNER_EMA
    ),
    "ADMM": Case(
        _alone(optimizers.ADMM, elasticity=1.0, **_PERIOD),
        refused=_NO_DECAY_ADMM,
    ),
}

_GENERATOR = np.random.default_rng(3)
X = _GENERATOR.normal(size=(96, 6)).astype("float32")
Y = (X @ _GENERATOR.normal(size=(6, 3))).argmax(axis=1)
BATCH = 12  # 8 steps
WORDS = _GENERATOR.integers(0, 9, size=(48, 2))
# Without tf.data's tuner, which makes the end of an epoch hang now and then.
_OPTIONS = tf.data.Options()
_OPTIONS.autotune.enabled = False
TRAIN = (
    tf.data.Dataset.from_tensor_slices((X, Y))
    .batch(BATCH)
    .with_options(_OPTIONS)
)


# What goes through the same code, {use: {case: that which shows it}}.
_SAME = {
    "export": dict.fromkeys(CASES, "EAMSGD")
    | {"MVADownpour": "MVADownpour"},
    "train_step": dict.fromkeys(CASES, "EAMSGD")
    | {"AsyncMSGD": "AsyncMSGD", "DiLoCo(SGD)": "DiLoCo(SGD)"},
    "use_ema": {"EASGD": "EAMSGD", "ASGD": "EAMSGD", "ADMM": "AsyncMSGD"},
}


def shown_by(name, use):
    """The case that shows a use for this one: often itself."""
    if use in USES:
        return name
    name = CASES[name].like or name
    return _SAME.get(use, {}).get(name, name)


# {use: the test that shows it}, as `shows` has collected them.
SHOWN = {}


def shows(*uses):
    """Marks a test as the one that shows that uses are so."""

    def register(test):
        SHOWN.update(dict.fromkeys(uses, test.__name__))
        return test

    return register


def markdown_table():
    """What is tested, as the docs show it."""
    head = ["optimizer", *USES.values(), *OPTIONS.values()]
    lines = [head, ["---"] * len(head)]
    for name, case in CASES.items():
        cells = [f"`{name}`"]
        for use in (*USES, *OPTIONS):
            if use in case.refused:
                cells.append(f"refused: {case.refused[use][1]}")
            else:
                same = shown_by(name, use)
                cells.append("yes" if same == name else f"as `{same}`")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def new_strategy(case):
    return strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(case.num_workers)]
    )


def small_network():
    """A classifier."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


def noisy_network():
    """One that has statistics and random masks."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3),
        ]
    )


def compiled(case, network=small_network, options=None, seed=1, **kwargs):
    """A model in the scope of a strategy of its own."""
    keras.utils.set_random_seed(seed)
    with new_strategy(case).scope():
        model = network()
        model.compile(
            case.make(**(options or {})),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )
    return model


def fit(model, epochs=1, **kwargs):
    model.fit(TRAIN, epochs=epochs, shuffle=False, verbose=0, **kwargs)
    return model


def state(model):
    """Everything that training goes on from, as arrays."""
    natives = [
        compat.native_variable(v)
        for v in model.variables + model.optimizer.variables
    ] + model.distribute_strategy.extended.untrained_variables()
    return [v.numpy() for v in natives] + [v.worker_values() for v in natives]


def assert_same_state(actual, expected, exactly=True):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        if exactly:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def assert_same_workers(actual, expected):
    """The trained variables of two models, on every worker."""
    for a, b in zip(
        actual.trainable_variables, expected.trainable_variables, strict=True
    ):
        a, b = compat.native_variable(a), compat.native_variable(b)
        np.testing.assert_allclose(
            a.worker_values(), b.worker_values(), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
