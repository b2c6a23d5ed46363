"""Optimizers inside of optimizers, to any depth: each worker steps alone."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import conformance_support as support
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic.callbacks import ElasticMonitor
from tf_elastic.optimizers import delays
from tf_elastic.optimizers import nested

OptimizerMap = keras.optimizers.OptimizerMap
MultiOptimizer = keras.optimizers.MultiOptimizer
SGD = keras.optimizers.SGD


@keras.saving.register_keras_serializable("tests")
class InBatches(keras.optimizers.Optimizer):
    """An optimizer of a user's own, that holds others in a list."""

    def __init__(self, inside, name="in_batches"):
        super().__init__(0.0, name=name)
        self.inside = [{"first": inside}]

    @property
    def inner(self):
        return self.inside[0]["first"]

    @property
    def variables(self):
        return super().variables + self.inner.variables

    def build(self, variables):
        super().build(variables)
        self.inner.build(variables)

    def apply(self, grads, trainable_variables=None):
        self.inner.apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    def get_config(self):
        return {"inside": keras.optimizers.serialize(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.optimizers.deserialize(config["inside"]))


def mapped(*rates, **kwargs):
    """The variable "first" is the first optimizer's, all else the other's."""
    first, other = (SGD(rate, **kwargs) for rate in rates)
    return MultiOptimizer(OptimizerMap(other, {"first": first}))


def by_function(*rates):
    made = {}

    def choose(variable):
        name = variable.path == "first"
        if name not in made:
            made[name] = SGD(rates[0 if name else 1])
        return made[name]

    return MultiOptimizer(choose)


def late(inner, delay=0):
    return optimizers.DelayedGradient(inner, delay=delay)


def two_variables(names=("first", "second")):
    return [keras.Variable([0.0], name=name) for name in names]


def workers_after(strategy, optimizer, steps=1, eagerly=False):
    """Worker i's gradients are 1 for the first worker and 10 for the other."""
    with strategy.scope():
        variables = two_variables()
        optimizer = optimizer()
        optimizer.build(variables)

    def step():
        i = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Keras divides a loss by the number of replicas.
        grad = (1.0 + 9.0 * tf.cast(i, "float32")) / 2
        optimizer.apply([grad[tf.newaxis]] * 2, variables)

    run = (lambda f: f) if eagerly else tf.function
    run = run(lambda: strategy.run(step))
    for _ in range(steps):
        run()
    return [
        compat.native_variable(v).worker_values()[:, 0].tolist()
        for v in variables
    ]


WRAPPERS = {
    "Elastic": optimizers.Elastic,
    "LocalSGD": optimizers.LocalSGD,
    "DiLoCo": optimizers.DiLoCo,
}
INSIDE = {
    "map": lambda: mapped(0.1, 0.01),
    "function": lambda: by_function(0.1, 0.01),
    "user": lambda: InBatches(mapped(0.1, 0.01)),
    "late": lambda: late(mapped(0.1, 0.01)),
    "late function": lambda: late(InBatches(by_function(0.1, 0.01))),
    "late inside": lambda: MultiOptimizer(
        OptimizerMap(late(SGD(0.01)), {"first": late(SGD(0.1))})
    ),
}


@pytest.mark.parametrize(
    ("wrapper", "inside"),
    [("Elastic", inside) for inside in INSIDE]
    + [("LocalSGD", "late"), ("DiLoCo", "map")],
)
def test_no_level_sums_gradients(strategy, wrapper, inside):
    first, second = workers_after(
        strategy(2, None),
        lambda: WRAPPERS[wrapper](INSIDE[inside](), communication_period=5),
        eagerly=inside == "user",
    )
    np.testing.assert_allclose(first, [-0.1, -1.0], rtol=1e-6)
    np.testing.assert_allclose(second, [-0.01, -0.1], rtol=1e-6)


def test_what_reduces_in_its_update_is_alone(strategy):
    """Also an optimizer that no one could find, and that sums by itself."""

    class Summing(SGD):
        def update_step(self, gradient, variable, learning_rate):
            gradient = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, gradient
            )
            super().update_step(gradient, variable, learning_rate)

    class Hidden:
        def __init__(self):
            self.optimizer = MultiOptimizer(OptimizerMap(Summing(0.1)))

    class Hiding(InBatches):
        def __init__(self):
            super().__init__(SGD(0.1))
            self.hidden = Hidden()

        @property
        def inner(self):
            return self.hidden.optimizer

    for eagerly in (False, True):
        first, _ = workers_after(
            strategy(2),
            lambda: optimizers.Elastic(Hiding(), communication_period=5),
            eagerly=eagerly,
        )
        np.testing.assert_allclose(first, [-0.1, -1.0], rtol=1e-6)


def test_a_delay_is_that_of_each_inside(strategy):
    """With a delay of 2 the third step takes the first gradient again."""
    with strategy(1).scope():
        variables = two_variables()
        optimizer = optimizers.Elastic(
            late(mapped(1.0, 10.0), delays.DelaySequence([0, 0, 2, 1])),
            communication_period=None,
        )
        optimizer.build(variables)
    points = []

    def step(grad):
        optimizer.apply([grad, 2 * grad], variables)

    for grad in (1.0, 2.0, 4.0, 8.0):
        optimizer._distribution_strategy.run(step, (tf.constant([grad]),))
        points.append(
            [
                float(compat.native_variable(v).worker_values()[0, 0])
                for v in variables
            ]
        )
    taken = np.cumsum([1, 2, 1, 4])
    np.testing.assert_allclose(points, np.stack([-taken, -20 * taken], 1))


def test_delays_that_are_cut_are_counted_once():
    optimizer = late(
        mapped(0.1, 0.1), delays.GeometricDelay(2.0, seed=5, max_delay=3)
    )
    variables = two_variables()
    for _ in range(12):
        optimizer.apply([tf.ones(1)] * 2, variables)
    drawn = optimizer.delay.draw_uncut(np.arange(12), 0)
    assert optimizer.num_cut_delays == (drawn > 3).sum() > 0


def test_a_way_of_its_own_to_step_cannot_be_late():
    class Own(InBatches):
        def apply(self, grads, trainable_variables=None):
            for grad, variable in zip(grads, trainable_variables, strict=True):
                variable.assign_sub(grad)

    optimizer = late(Own(SGD(0.1)))
    with pytest.raises(TypeError, match="=Own, which moves 'first' in another"):
        optimizer.apply([tf.ones(1)] * 2, two_variables())


def test_a_step_is_one_of_those_that_step_most_often(strategy):
    """One of every 2 calls, the other of every 4; an exchange every 2 steps."""
    multi = MultiOptimizer(
        OptimizerMap(
            SGD(0.1, gradient_accumulation_steps=4),
            {"first": SGD(0.1, gradient_accumulation_steps=2)},
        )
    )
    assert nested.calls_per_step(multi) == 2
    assert nested.calls_per_step(InBatches(mapped(1.0, 1.0))) == 1
    made = []

    def make():
        inside = MultiOptimizer.from_config(multi.get_config())
        made.append(optimizers.LocalSGD(late(inside), communication_period=2))
        return made[-1]

    first, second = workers_after(strategy(2, None), make, steps=4)
    # The exchange after call 4: both workers go on from their mean.
    np.testing.assert_allclose(first, [-1.1, -1.1], rtol=1e-6)
    np.testing.assert_allclose(second, [-0.55, -0.55], rtol=1e-6)
    assert int(made[-1].center_step) == 1


class Case:
    """For `conformance_support`."""

    num_workers = 2

    def __init__(self, make):
        self.make = make


def kernels_and_others(first, other):
    return MultiOptimizer(OptimizerMap(other, {".*kernel": first}))


def adam_and_momentum():
    return optimizers.Elastic(
        InBatches(
            kernels_and_others(
                keras.optimizers.Adam(0.03),
                late(SGD(0.1, momentum=0.9, clipnorm=1.0), 2),
            )
        ),
        communication_period=3,
    )


def test_one_for_all_is_as_none_inside():
    """`MultiOptimizer` of equal optimizers, under a loss scale."""
    plain = support.compiled(
        Case(lambda: optimizers.Elastic(SGD(0.1), communication_period=3))
    )
    several = support.compiled(
        Case(
            lambda: keras.optimizers.LossScaleOptimizer(
                optimizers.Elastic(
                    kernels_and_others(SGD(0.1, name="a"), SGD(0.1, name="a")),
                    communication_period=3,
                )
            )
        )
    )
    support.fit(plain, 2)
    history = several.fit(
        support.TRAIN,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[ElasticMonitor()],
    ).history
    for name in ("learning_rate/a", "learning_rate/a_1"):
        np.testing.assert_allclose(history[name], 0.1, rtol=1e-6)
    support.assert_same_workers(several, plain)
    steps = [int(plain.optimizer.center_step)]
    steps.append(int(several.optimizer.inner_optimizer.center_step))
    assert steps == [6, 6]


def test_training_goes_on_to_the_bit(tmp_path):
    case = Case(adam_and_momentum)
    model = support.compiled(case, support.normalized_network)
    support.fit(model)
    model.save(tmp_path / "m.keras")
    path = tf.train.Checkpoint(model=model).save(tmp_path / "c")
    with support.new_strategy(case).scope():
        loaded = keras.saving.load_model(tmp_path / "m.keras")
    restored = support.compiled(case, support.normalized_network, seed=2)
    restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored).restore(path)
    for again in (loaded, restored):
        support.assert_same_state(support.state(again), support.state(model))
    slot = loaded.optimizer.inner_optimizer.inner.optimizers[0].variables[2]
    first, second = compat.native_variable(slot).worker_values()
    assert np.abs(first - second).max() > 0
    support.assert_same_state(
        support.state(support.fit(loaded)), support.state(support.fit(model))
    )


def test_a_config_makes_an_equal_one():
    def text(optimizer):
        return json.dumps(keras.optimizers.serialize(optimizer))

    config = text(adam_and_momentum())
    again = keras.optimizers.deserialize(json.loads(config))
    assert text(again) == config
    kinds = [type(o).__name__ for o in nested.optimizers_in(again)]
    assert sorted(kinds) == [
        "Adam",
        "DelayedGradient",
        "Elastic",
        "InBatches",
        "MultiOptimizer",
        "SGD",
    ]


def test_a_loss_scale_of_what_is_inside_is_its_own():
    optimizer = optimizers.Elastic(SGD(0.1, loss_scale_factor=8.0))
    assert optimizer.loss_scale_factor == 8.0
    keras.optimizers.LossScaleOptimizer(optimizer)  # scales in its place
    assert optimizer.inner_optimizer.loss_scale_factor is None


@pytest.mark.parametrize(
    ("inner", "error", "message"),
    [
        (
            lambda: InBatches(keras.optimizers.LossScaleOptimizer(SGD())),
            TypeError,
            "LossScaleOptimizer cannot be inside of",
        ),
        (
            lambda: InBatches(InBatches(optimizers.EASGD())),
            TypeError,
            "EASGD cannot be inside of `Elastic`",
        ),
        (
            lambda: mapped(0.1, 0.1, use_ema=True),
            ValueError,
            "Received: use_ema=True of SGD",
        ),
        (
            lambda: late(InBatches(late(SGD()))),
            TypeError,
            "One delay is enough",
        ),
    ],
)
def test_what_cannot_be_inside_cannot_be_deep_inside(inner, error, message):
    with pytest.raises(error, match=message):
        optimizers.Elastic(inner())


def test_what_is_made_later_is_refused_then(strategy):
    with strategy(2).scope():
        optimizer = optimizers.Elastic(
            MultiOptimizer(lambda _: SGD(0.1, use_ema=True))
        )
        with pytest.raises(ValueError, match="Received: use_ema=True of SGD"):
            optimizer.build(two_variables())
