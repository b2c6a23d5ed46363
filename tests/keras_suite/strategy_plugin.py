"""A pytest plugin: Keras' own tests run in the scope of a strategy.

The tests are those of the wheel and know nothing of it. Stock optimizers
become `LocalSGD(optimizer, communication_period=1)`, which averages the workers
after each step, so that all numbers are to be Keras'. What the tests call
outside of replicas, `optimizer.apply`, runs in each replica. `jit_compile=True`
of `compile`, which is refused (see docs/limits.md), becomes "auto", so that the
rest of such a test counts.

Which strategy is in the environment: KERAS_SUITE="elastic 2", for two
devices; "mirrored 2" for TensorFlow's, "none" for none at all. The outcomes
are written to the file KERAS_SUITE_OUTCOMES.
"""

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import sys
import threading
import types
import weakref

import keras
import pytest
import tensorflow as tf
from keras.src.optimizers import base_optimizer
from keras.src.optimizers import multi_optimizer
from keras.src.testing import test_case
from keras.src.trainers import epoch_iterator
from keras.src.trainers import trainer
from tensorflow.python.eager import context

from tf_elastic import optimizers
from tf_elastic import strategies

KIND, _, NUMBER = os.environ.get("KERAS_SUITE", "none").partition(" ")
DEVICES = [f"CPU:{i}" for i in range(int(NUMBER or 1))]
# These make a strategy of their own, on two devices.
MAKE_THEIR_OWN = ("DistributeTest", "test_swap_ema_weights_with_tf_distribute")
StockStrategy = tf.distribute.MirroredStrategy

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(2)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


def new_strategy():
    if KIND == "elastic":
        return strategies.ElasticMirroredStrategy(DEVICES)
    if KIND == "mirrored":
        return StockStrategy(DEVICES)
    return None


# Optimizers.

_standing_for = weakref.WeakKeyDictionary()
_replica = threading.local()  # whether an optimizer is at work in it


def elastic(optimizer):
    """What stands for a stock optimizer: its steps, averaged after each."""
    if isinstance(optimizer, (str, dict)):
        optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, optimizers.CenterOptimizer) or not isinstance(
        optimizer, keras.optimizers.Optimizer
    ):
        return optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.inner_optimizer = elastic(optimizer.inner_optimizer)
        if optimizer.built and not optimizer.inner_optimizer.built:
            optimizer.inner_optimizer.build(optimizer._trainable_variables)
        return optimizer
    if isinstance(optimizer, keras.optimizers.SGD) and optimizer.use_ema:
        # An average is the center's: not for an inner optimizer.
        config = optimizer.get_config()
        for name in ("momentum", "nesterov"):
            assert not config.pop(name), f"SGD with `use_ema` and `{name}`"
        return optimizers.EASGD.from_config(
            config
            | {
                "communication_period": 1,
                "beta": 1.0,
                "jit_compile": False,
            }
        )
    return optimizers.LocalSGD(
        optimizer, communication_period=1, jit_compile=False
    )


def elastic_scope(model):
    """The scope in which a model's optimizer is made, or None."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None and tf.distribute.has_strategy():
        strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, strategies.ElasticMirroredStrategy):
        return None
    if tf.distribute.has_strategy():
        return contextlib.nullcontext()
    return strategy.scope()


def with_elastic_optimizer(compile_):
    @functools.wraps(compile_)
    def compile(self, optimizer="rmsprop", *args, **kwargs):
        scope = elastic_scope(self)
        if scope is not None:
            with scope:
                optimizer = elastic(optimizer)
            if kwargs.get("jit_compile") is True:
                kwargs["jit_compile"] = "auto"
        return compile_(self, optimizer, *args, **kwargs)

    return compile


def stand_in(optimizer):
    """The elastic optimizer in the place of one, which may be itself."""
    if KIND != "elastic":
        return optimizer
    if optimizer not in _standing_for:
        _standing_for[optimizer] = elastic(optimizer)
    return _standing_for[optimizer]


def in_each_replica(apply):
    """`optimizer.apply` outside of replicas, as a training step calls it."""

    @functools.wraps(apply)
    def wrapped(self, grads, trainable_variables=None):
        if KIND == "none" or not tf.distribute.has_strategy():
            return apply(self, grads, trainable_variables)
        if not tf.distribute.in_cross_replica_context():
            # Another one's inner optimizer is none of the test's.
            if KIND != "elastic" or getattr(_replica, "at_work", False):
                return apply(self, grads, trainable_variables)
            made = tf.distribute.get_replica_context().merge_call(
                lambda _: stand_in(self)
            )
            call = functools.partial(apply, self)
            call = call if made is self else made.apply
            _replica.at_work = made is self
            try:
                return call(grads, trainable_variables)
            finally:
                _replica.at_work = False
        strategy = tf.distribute.get_strategy()
        share = 1.0 / strategy.num_replicas_in_sync  # they are summed
        grads = [
            None
            if gradient is None
            else tf.math.scalar_mul(tf.cast(share, gradient.dtype), gradient)
            for gradient in map(as_gradient, grads)
        ]
        optimizer, call = stand_in(self), functools.partial(apply, self)
        if optimizer is not self:
            call = optimizer.apply
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        if not optimizer.built:
            optimizer.build(trainable_variables or self._trainable_variables)
        strategy.run(lambda: call(grads, trainable_variables))

    return wrapped


def as_gradient(value):
    if value is None or isinstance(value, tf.IndexedSlices):
        return value
    return tf.convert_to_tensor(value)


for _class in (
    base_optimizer.BaseOptimizer,
    keras.optimizers.LossScaleOptimizer,
    multi_optimizer.MultiOptimizer,
    optimizers.CenterOptimizer,
):
    _class.apply = in_each_replica(_class.apply)
if KIND == "elastic":
    trainer.Trainer.compile = with_elastic_optimizer(trainer.Trainer.compile)

# The scope.

_entered = []  # of the present test: its strategy
_reset_default_graph = tf.compat.v1.reset_default_graph
_set_up = test_case.TestCase.setUp


def reset_default_graph():
    """Clearing Keras' session within a test does not leave the scope."""
    if not _entered:
        _reset_default_graph()


def set_up(self):
    """Keras' own, which clears its session, and then the scope."""
    _set_up(self)
    strategy = new_strategy()
    if strategy is None or makes_its_own(self.id()):
        return
    scope = strategy.scope()
    scope.__enter__()
    _entered.append(strategy)

    def leave():
        _entered.clear()
        scope.__exit__(None, None, None)

    self.addCleanup(leave)


def makes_its_own(test):
    return any(name in test for name in MAKE_THEIR_OWN)


tf.compat.v1.reset_default_graph = reset_default_graph
# TensorFlow crashes now and then as it deletes the iterator of a strategy when
# its kernels were thrown away meanwhile: neither is done here.
context.Context.clear_kernel_cache = lambda self: None


def kept(method):
    """The iterators of an epoch iterator stay for as long as the process."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        for thing in (self, getattr(self, "_current_iterator", None)):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
        return method(self, *args, **kwargs)

    return wrapped


epoch_iterator.EpochIterator.__init__ = kept(
    epoch_iterator.EpochIterator.__init__
)
epoch_iterator.EpochIterator.reset = kept(epoch_iterator.EpochIterator.reset)
test_case.TestCase.setUp = set_up
# `trainer_test.py` imports it for tests of that backend.
sys.modules.setdefault("jax", types.ModuleType("jax"))


@pytest.fixture(autouse=True)
def _own_strategies(request, monkeypatch):
    if KIND == "elastic" and makes_its_own(request.node.nodeid):
        monkeypatch.setattr(
            tf.distribute,
            "MirroredStrategy",
            strategies.ElasticMirroredStrategy,
        )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test that is not in the scope at its end has shown nothing."""
    result = yield
    if _entered:
        assert tf.distribute.get_strategy() is _entered[0], "not in the scope"
    return result


# Outcomes.

_outcomes = {}


def pytest_runtest_logreport(report):
    """Notes whether a test failed, in whichever phase, and how.

    One that needs a package that is not there counts as skipped.
    """
    outcome, said = report.outcome, ""
    if report.failed:
        error = getattr(report.longrepr, "reprcrash", None)
        said = (error.message if error else str(report.longrepr)).strip()
        if said.startswith("ModuleNotFoundError"):
            outcome = "skipped"
    if outcome != "passed" or report.nodeid not in _outcomes:
        _outcomes[report.nodeid] = [outcome, said]


def pytest_sessionfinish(session):
    """Writes them, in the process that gathers all."""
    if not hasattr(session.config, "workerinput"):
        path = pathlib.Path(os.environ["KERAS_SUITE_OUTCOMES"])
        path.write_text(json.dumps(_outcomes), encoding="utf-8")
