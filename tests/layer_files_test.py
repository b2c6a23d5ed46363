"""Files: of layers that save something else than their variables, and where."""

import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from tests import conformance_support as support
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.core import rules


def new_strategy(num_workers=2):
    return strategies.ElasticMirroredStrategy(
        [f"CPU:{i}" for i in range(num_workers)]
    )


def compile_in(strategy, model, optimizer=None):
    with strategy.scope():
        model.compile(
            optimizer
            or optimizers.EAMSGD(
                0.05, momentum=0.9, communication_period=3, jit_compile=False
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )


def functional():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="tanh", name="a")(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
    return keras.Model(inputs, keras.layers.Dense(3, name="z")(hidden))


@keras.saving.register_keras_serializable("tests")
class AroundOptimizer(keras.Model):
    """Its attributes load one before, one after that called `optimizer`."""

    def __init__(self, adapters=None, **kwargs):
        super().__init__(**kwargs)
        self.adapters = adapters
        self.a = keras.layers.Dense(8, activation="tanh")
        self.norm = keras.layers.BatchNormalization(momentum=0.5)
        self.z = keras.layers.Dense(3)

    def build(self, shape):
        self.a.build(shape)
        self.norm.build((None, 8))
        self.z.build((None, 8))
        if self.adapters:
            adapt(self, self.adapters)

    def call(self, inputs, training=False):
        return self.z(self.norm(self.a(inputs), training=training))

    def get_layer(self, name):
        return getattr(self, name)

    def get_config(self):
        return {**super().get_config(), "adapters": self.adapters}


def built(make):
    model = make()
    model.build((None, 6))
    return model


def with_adapters(strategy, make, quantized=False):
    """A model in use, whose dense layers have LoRA, not yet trained so."""
    with strategy.scope():
        model = built(make)
        model.adapters = "int8" if quantized else "float"
        adapt(model, model.adapters)
    return model


def adapt(model, adapters):
    for name in ("a", "z"):
        layer = model.get_layer(name)
        if adapters == "int8":
            layer.quantize("int8")
        layer.enable_lora(2)


def fit(model):
    support.fit(model, data=support.TRAIN.take(5))


def workers_of(model):
    return [
        compat.native_variable(v).worker_values()
        for v in model.trainable_variables
    ]


def assert_at_center(model):
    for variable in model.variables:
        native = compat.native_variable(variable)
        if hasattr(native, "worker_values"):
            for value in native.worker_values():
                np.testing.assert_array_equal(value, native.numpy())


def outputs(model):
    return np.asarray(model(support.X))


@pytest.mark.parametrize(
    ("make", "quantized"), [(functional, False), (AroundOptimizer, True)]
)
def test_adapters_are_not_added_twice(tmp_path, make, quantized):
    model = with_adapters(new_strategy(), make, quantized)
    compile_in(model.distribute_strategy, model)
    fit(model)
    before = outputs(model)
    assert np.abs(model.get_layer("z").lora_kernel_b).max() > 1e-3
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    plain = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    expected = outputs(plain)
    if not quantized:  # else the merged kernel is rounded
        np.testing.assert_allclose(expected, before, rtol=1e-4, atol=1e-5)
    with new_strategy().scope():
        loaded = keras.saving.load_model(tmp_path / "m.keras")
    again = with_adapters(new_strategy(), make, quantized)
    compile_in(again.distribute_strategy, again)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "m.weights.h5")
    model.load_weights(tmp_path / "m.weights.h5")
    for other in (loaded, again, model):
        np.testing.assert_allclose(
            outputs(other), expected, rtol=1e-5, atol=1e-6
        )
        assert not np.any(other.get_layer("a").lora_kernel_a)
        for name in ("a", "z"):
            kernel = other.get_layer(name)._kernel
            for worker in compat.native_variable(kernel).worker_values():
                np.testing.assert_array_equal(worker, kernel.numpy())
    # What no layer's file changes is each worker's, as it was.
    biases = [w for w in workers_of(loaded) if w.ndim == 2]
    assert all(np.abs(b[0] - b[1]).max() > 0 for b in biases)


MAKES = {
    "EAMSGD": lambda: optimizers.EAMSGD(
        0.05, momentum=0.9, communication_period=3, jit_compile=False
    ),
    "Downpour": lambda: optimizers.Downpour(
        0.05, communication_period=3, jit_compile=False
    ),
}


@pytest.fixture(scope="module", params=MAKES)
def trained(request):
    """A model, what its layers and optimizer save, and how to make another."""

    def new():
        strategy = new_strategy()
        with strategy.scope():
            model = built(functional)
            optimizer = MAKES[request.param]()
        compile_in(strategy, model, optimizer)
        model.optimizer.build(model.trainable_variables)
        return model

    model = new()
    fit(model)
    store = {}
    model.optimizer.save_own_variables(store)
    return model, model.get_weights(), store, new


@pytest.mark.parametrize("order", ["layers first", "optimizer first"])
def test_either_part_may_come_first(trained, order):
    model, weights, store, new = trained
    again = new()
    others = [w + 1 for w in weights]
    for _ in range(2):  # Into a new model, then into one that was set.
        steps = [
            lambda: again.set_weights(weights),
            lambda: again.optimizer.load_own_variables(store),
        ]
        for step in steps if order == "layers first" else steps[::-1]:
            step()
        support.assert_same_state(support.state(again), support.state(model))
        again.set_weights(others)
        assert_at_center(again)


@pytest.mark.parametrize("order", ["layers first", "optimizer first"])
def test_the_layers_have_the_last_word(trained, order):
    """The first layer's file holds another kernel: workers begin there."""
    _, weights, store, new = trained
    again = new()
    merged = [weights[0] + 1, *weights[1:]]
    steps = [
        lambda: again.set_weights(merged),
        lambda: again.optimizer.load_own_variables(store),
    ]
    for step in steps if order == "layers first" else steps[::-1]:
        step()
    kernel, bias = map(compat.native_variable, again.layers[1].weights)
    np.testing.assert_array_equal(kernel.numpy(), merged[0])
    for value in kernel.worker_values():
        np.testing.assert_array_equal(value, merged[0])
    remembered = [f for f in kernel.followers if hasattr(f, "worker_values")]
    for follower in remembered:
        np.testing.assert_array_equal(follower.worker_values()[1], merged[0])
    sends = again.optimizer.center_rule.sends
    assert len(remembered) == (sends == rules.INCREMENT)
    np.testing.assert_array_equal(bias.worker_values(), store["trained.1"])


def test_what_waits_is_not_given_to_what_was_trained_since(trained):
    model, weights, store, new = trained
    again = new()
    again.set_weights([w + 1 for w in weights])
    again.optimizer.load_own_variables(store)  # waits for the layers
    for variable in again.weights:
        for copy in compat.native_variable(variable).store.centers:
            copy.assign_add(copy * 0 + 1)  # as an exchange does
    again.set_weights(weights)
    assert_at_center(again)


def test_models_that_are_in_the_scope_too_do_not_confuse(tmp_path):
    """No false warning, in the scope that saved, nor in another."""
    strategy = new_strategy()
    models = []
    with strategy.scope():
        models.append(built(functional))
    compile_in(strategy, models[0])
    fit(models[0])
    models[0].save(tmp_path / "0.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", optimizers.CheckpointWarning)
        for k in range(2):  # The second file has both models' statistics.
            with strategy.scope():
                models.append(keras.saving.load_model(tmp_path / f"{k}.keras"))
            models[-1].save(tmp_path / f"{k + 1}.keras")
        with new_strategy().scope():
            models.append(keras.saving.load_model(tmp_path / "2.keras"))
    expected = models[0].variables + models[0].optimizer.variables
    for model in models[1:]:
        for a, b in zip(
            model.variables + model.optimizer.variables, expected, strict=True
        ):
            a, b = compat.native_variable(a), compat.native_variable(b)
            np.testing.assert_array_equal(a.worker_values(), b.worker_values())
            np.testing.assert_array_equal(a.numpy(), b.numpy())


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["tf_elastic"] = None  # importing it fails
import keras
import numpy as np
model = keras.saving.load_model(sys.argv[1], compile=False)
x, y = (np.load(path) for path in sys.argv[2:])
np.testing.assert_allclose(model.predict(x, verbose=0), y, 1e-5, 1e-6)
try:
    import tf_elastic
except ImportError:
    print("predicted")
"""


@pytest.mark.parametrize("trained", ["EAMSGD"], indirect=True)
def test_a_file_predicts_where_the_package_is_not_installed(trained, tmp_path):
    model, *_ = trained
    model.save(tmp_path / "center.keras")
    np.save(tmp_path / "x.npy", support.X)
    np.save(tmp_path / "y.npy", model.predict(support.X, verbose=0))
    files = ["center.keras", "x.npy", "y.npy"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, *files],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.stdout == "predicted\n", done.stderr
