"""The networks: shapes, sizes, first values, l2 term."""

import keras
import numpy as np
import pytest

import tf_elastic.data
from tf_elastic import models

BUILDERS = [
    models.cifar_convnet,
    models.cifar_lowrank_convnet,
    models.digits_convnet,
]


def test_cifar_convnet_is_the_thesis_network():
    model = models.cifar_convnet()
    shapes = [
        layer.output.shape[1:]
        for layer in model.layers
        if isinstance(
            layer,
            (
                keras.layers.Conv2D,
                keras.layers.MaxPooling2D,
                keras.layers.Dense,
            ),
        )
    ]
    assert shapes == [
        (24, 24, 64),
        (12, 12, 64),
        (8, 8, 128),
        (4, 4, 128),
        (2, 2, 64),
        (256,),
        (10,),
    ]
    assert model.count_params() == 351_946
    assert model.name == "cifar_convnet"
    (dropout,) = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert dropout.rate == 0.5


def test_cifar_lowrank_convnet_is_the_thesis_network():
    model = models.cifar_lowrank_convnet()
    found = [
        (
            layer.output.shape[1:],
            getattr(layer, "kernel_size", None),
            getattr(layer, "activation", None) is keras.activations.relu,
        )
        for layer in model.layers
        if layer.weights
    ]
    # torch's (width, height) of kernels is Keras' (height, width).
    assert found == [
        ((32, 32, 10), (5, 1), False),
        ((32, 32, 96), (1, 5), True),
        ((16, 16, 51), (5, 1), False),
        ((16, 16, 128), (1, 5), True),
        ((8, 8, 51), (5, 1), False),
        ((8, 8, 256), (1, 5), True),
        ((4, 4, 64), (1, 1), True),
        ((256,), None, True),
        ((10,), None, False),
    ]
    assert model.count_params() == 442_000
    kinds = [type(layer).__name__ for layer in model.layers[-5:]]
    assert kinds == ["Flatten", "Dropout", "Dense", "Dropout", "Dense"]


@pytest.mark.parametrize("build", BUILDERS)
def test_outputs_are_probabilities(build):
    model = build(seed=0)
    images = np.random.default_rng(0).random((4, *model.input_shape[1:]))
    outputs = keras.ops.convert_to_numpy(model(images))
    assert outputs.shape == (4, 10)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)
    assert build(num_classes=7).output_shape == (None, 7)


@pytest.mark.parametrize("build", BUILDERS)
def test_first_values_are_glorots(build):
    for layer in build(seed=1).layers:
        if not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        field = np.prod(kernel.shape[:-2])  # 1 for a dense layer
        bound = np.sqrt(6 / (field * sum(kernel.shape[-2:])))
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.97 * bound
        assert abs(kernel.std() / (bound / np.sqrt(3)) - 1) < 0.1
        assert not bias.any()


@pytest.mark.parametrize("build", BUILDERS)
def test_seed_decides_every_layer_differently(build):
    a, b = build(seed=5).get_weights(), build(seed=5).get_weights()
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    other = build(seed=6).get_weights()
    assert all((x != y).any() for x, y in zip(a[::2], other[::2], strict=True))
    # Scaled to [-1, 1], no two kernels begin with the same numbers.
    starts = [k.ravel()[:20] / np.abs(k).max() for k in a[::2]]
    for i, start in enumerate(starts):
        for later in starts[i + 1 :]:
            assert not np.allclose(start, later, atol=0.05)


def test_without_seed_the_global_one_decides():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(models.digits_convnet().get_weights())
    np.testing.assert_array_equal(weights[0][0], weights[1][0])
    other = models.digits_convnet().get_weights()
    assert (weights[0][0] != other[0]).any()


@pytest.mark.parametrize("build", BUILDERS)
def test_l2_is_half_lambda_times_all_parameters_squared(build):
    model = build(l2=1e-2, seed=0)
    weights = [w + 0.1 for w in model.get_weights()]  # So biases count too.
    model.set_weights(weights)
    expected = 1e-2 / 2 * sum(np.sum(w.astype(float) ** 2) for w in weights)
    total = float(sum(model.losses))
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert not build(l2=0).losses


def test_cifar_l2_is_the_thesis_by_default():
    model = models.cifar_convnet(seed=0)
    squares = sum(np.sum(w.astype(float) ** 2) for w in model.get_weights())
    total = float(sum(model.losses))
    np.testing.assert_allclose(total, 1e-4 / 2 * squares, rtol=1e-5)


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\). Received: dropout"),
        ({"dropout": -0.1}, r"Received: dropout=-0.1"),
        ({"l2": -1}, r"`l2` must be >= 0. Received: l2=-1"),
        ({"l2": float("nan")}, r"Received: l2=nan"),
    ],
)
def test_errors(build, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize("build", BUILDERS)
def test_models_can_be_saved_and_cloned(build, tmp_path):
    model = build(seed=0)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    for x, y in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert keras.models.clone_model(model).count_params()


def test_digits_convnet_learns_in_seconds():
    data = tf_elastic.data.load("digits", batch_size=32, seed=0)
    model = models.digits_convnet(seed=0)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=11,
    )
    model.fit(data["train"], epochs=12, verbose=0, shuffle=False)
    _, accuracy = model.evaluate(data["test"], verbose=0)
    assert accuracy > 0.95
