"""The network for ImageNet, and residual networks of angles."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import models
from tf_elastic import optimizers
from tf_elastic import strategies


def test_imagenet_convnet_is_the_thesis_network():
    model = models.imagenet_convnet()
    shapes = [
        layer.output.shape[1:]
        for layer in model.layers
        if not isinstance(
            layer, (keras.layers.InputLayer, keras.layers.Dropout)
        )
    ]
    assert shapes == [
        (108, 108, 96),
        (36, 36, 96),
        (32, 32, 256),
        (16, 16, 256),
        (14, 14, 384),
        (13, 13, 384),
        (12, 12, 256),
        (6, 6, 256),
        (9216,),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert model.count_params() == 61_128_808
    # "233 MB".
    assert round(4 * model.count_params() / 2**20) == 233
    biases = [w for layer in model.layers for w in layer.weights[1:]]
    assert len(biases) == 8
    for bias in biases:
        np.testing.assert_array_equal(bias, np.float32(0.1))
    rates = [
        layer.rate
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert rates == [0.5, 0.5]


def test_imagenet_has_its_own_penalty():
    model = models.imagenet_convnet((101, 101, 3), 10, seed=0)
    squares = sum(np.sum(w.astype(float) ** 2) for w in model.get_weights())
    np.testing.assert_allclose(
        float(sum(model.losses)), 1e-5 / 2 * squares, rtol=1e-5
    )
    again = models.imagenet_convnet((101, 101, 3), 10, seed=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input():
    with pytest.raises(ValueError, match=r"at least 101 .*\(100, 224, 3\)"):
        models.imagenet_convnet((100, 224, 3))
    with pytest.raises(ValueError, match=r"6 n \+ 2: 8, .* depth=34"):
        models.sphere_resnet(34)
    with pytest.raises(ValueError, match="depth=2"):
        models.resnet(2)
    with pytest.raises(ValueError, match="operator='square'"):
        models.SphereConv2D(3, 3, operator="square")


# SphereConv2D.


def operator(name, theta):
    """As section 2 of the paper, and the authors' program, have it."""
    if name == "linear":
        return 1 - 2 * theta / math.pi
    if name == "cosine":
        return math.cos(theta)
    k = 0.3
    first = math.exp(-math.pi / (2 * k))
    second = math.exp(theta / k - math.pi / (2 * k))
    return (1 + first) / (1 - first) * (1 - second) / (1 + second)


def reference(x, kernel, strides, name):
    """Place by place, in float64; "same" padding."""
    size, filters = kernel.shape[0], kernel.shape[-1]
    batch, height, width, channels = x.shape
    rows, columns = -(-height // strides), -(-width // strides)
    missing = [
        max((n - 1) * strides + size - side, 0)
        for n, side in ((rows, height), (columns, width))
    ]
    padded = np.pad(
        x, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)]
    )
    out = np.empty((batch, rows, columns, filters))
    of_filters = np.sqrt((kernel**2).sum((0, 1, 2)) + 1e-4)
    for b, r, c, f in itertools.product(
        *map(range, (batch, rows, columns, filters))
    ):
        top, left = r * strides, c * strides
        patch = padded[b, top : top + size, left : left + size]
        length = math.sqrt((patch**2).sum() + 1e-4) * of_filters[f]
        cosine = (patch * kernel[..., f]).sum() / length
        cosine = min(max(cosine, 1e-6 - 1), 1 - 1e-6)
        out[b, r, c, f] = operator(name, math.acos(cosine))
    return out


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize(("strides", "size"), [(1, 3), (2, 3), (1, 1)])
def test_sphere_conv_is_as_the_paper_has_it(name, strides, size):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 5, 4, 3))
    layer = models.SphereConv2D(4, size, strides, name, dtype="float64")
    layer.build(x.shape)
    kernel = rng.normal(size=layer.kernel.shape)
    layer.kernel.assign(kernel)
    found = layer(x)
    assert found.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(
        found, reference(x, kernel, strides, name), atol=1e-12
    )


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
def test_where_both_point_the_same_way_its_slope_is_a_number(name):
    layer = models.SphereConv2D(1, 1, operator=name)
    x = tf.constant([100.0, -3.0, 0.5], shape=(1, 1, 1, 3))
    layer.build(x.shape)
    layer.kernel.assign(tf.reshape(x, layer.kernel.shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x)
    assert float(out[0, 0, 0, 0]) == pytest.approx(1.0, abs=2e-3)
    for slope in tape.gradient(out, [x, *layer.trainable_variables]):
        assert np.isfinite(slope).all()


def test_the_filters_first_values():
    layer = models.SphereConv2D(64, 3)
    layer.build((None, 8, 8, 96))
    kernel = np.asarray(layer.kernel)
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * 96)), rel=0.02)
    # Not cut at two deviations.
    assert np.abs(kernel).max() > 3.5 * kernel.std()


def test_orthogonality():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 5))
    columns = kernel.reshape(18, 5)
    expected = 2e-4 / 2 * ((columns.T @ columns - np.eye(5)) ** 2).sum()
    np.testing.assert_allclose(models.Orthogonality()(kernel), expected)
    turned = np.linalg.qr(columns)[0].reshape(kernel.shape)
    np.testing.assert_allclose(models.Orthogonality()(turned), 0, atol=1e-12)


# Residual networks.


def test_sphere_resnet_32_is_the_momentum_papers():
    model = models.sphere_resnet()
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, (models.SphereConv2D, keras.layers.Conv2D))
    ]
    # 32 layers, and the two ways around: "SphereResNet34".
    assert len(convolutions) == 34
    spheres = [c for c in convolutions if isinstance(c, models.SphereConv2D)]
    assert len(spheres) == 31
    assert {c.output.shape[1:] for c in spheres} == {
        (32, 32, 96),
        (16, 16, 192),
        (8, 8, 384),
    }
    assert model.count_params() == 16_751_520
    assert model.output_shape == (None, 100)


@pytest.mark.parametrize(
    "build",
    [
        models.sphere_resnet,
        pytest.param(models.resnet, marks=pytest.mark.full),
    ],
)
def test_a_resnet_is_trained_saved_and_read(build, tmp_path):
    """Two elastic workers; in mixed precision too."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 32, 32, 3)).astype("float32")
    y = rng.integers(10, size=8)
    strategy = strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = build(8, 10, seed=0)
        model.compile(
            optimizers.EAMSGD(0.01, momentum=0.9, communication_period=1),
            loss="sparse_categorical_crossentropy",
        )
    before = model.get_weights()
    history = model.fit(x, y, batch_size=4, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(
        (a != b).any() for a, b in zip(before, model.get_weights(), strict=True)
    )
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path, compile=False)
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = models.sphere_resnet(8, 10, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model(np.random.default_rng(0).normal(size=(2, 32, 32, 3)))
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(np.sum(outputs, 1), 1, rtol=1e-5)
