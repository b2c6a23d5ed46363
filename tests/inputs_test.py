"""Inputs that have no mean, on two devices: each worker trains on its slice."""

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies

ROWS = 11
_GENERATOR = np.random.default_rng(2)
_NUMBERS = _GENERATOR.normal(size=(ROWS, 4)).astype("float32")
INPUTS = {
    "flags": _NUMBERS > 0,
    "words": np.array(["a b", "b", "c a a", "d", ""] * 2 + ["a"]),
    "counts": _GENERATOR.integers(0, 5, size=(ROWS, 2)),
    "numbers": _NUMBERS,
    "ragged": tf.ragged.constant(
        [[1, 2], [3], [0, 1, 2], [4], [0]] * 2 + [[2]]
    ),
    "sparse": tf.sparse.from_dense(_NUMBERS * (_NUMBERS > 0)),
}
TARGETS = _GENERATOR.normal(size=(ROWS, 1)).astype("float32")


class MeanRow(keras.layers.Layer):
    """The mean of a table's rows that a ragged input names."""

    def build(self, shape):
        self.table = self.add_weight(shape=(5, 3), name="table")

    def call(self, rows):
        table = tf.convert_to_tensor(self.table)
        if not isinstance(rows, tf.RaggedTensor):  # to learn shapes
            return tf.reduce_mean(tf.gather(table, rows), 1)
        found = tf.ragged.map_flat_values(lambda r: tf.gather(table, r), rows)
        return tf.reduce_mean(found, 1)

    def compute_output_shape(self, shape):
        return (shape[0], 3)


def network():
    words = keras.layers.TextVectorization(output_mode="multi_hot")
    words.adapt(["a b c d"])
    inputs = {
        "flags": keras.Input((4,), dtype="bool", name="flags"),
        "words": keras.Input((), dtype="string", name="words"),
        "counts": keras.Input((2,), dtype="int64", name="counts"),
        "numbers": keras.Input((4,), name="numbers"),
        "ragged": keras.Input(
            (None,), dtype="int32", ragged=True, name="ragged"
        ),
        "sparse": keras.Input((4,), sparse=True, name="sparse"),
    }
    features = [
        keras.ops.cast(inputs["flags"], "float32"),
        words(inputs["words"]),
        keras.ops.cast(inputs["counts"], "float32"),
        inputs["numbers"],
        MeanRow()(inputs["ragged"]),
        keras.layers.Dense(2)(inputs["sparse"]),
    ]
    joined = keras.layers.Concatenate()(features)
    return keras.Model(inputs, keras.layers.Dense(1)(joined))


def test_workers_train_on_their_slices_of_what_has_no_mean():
    data = tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS))
    strategy = strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = network()
        model.compile(
            optimizers.EASGD(0.1, communication_period=None, jit_compile=False),
            "mse",
        )
    start = model.get_weights()
    # Two whole batches, then one of three rows: slices of unlike shapes.
    model.fit(data.batch(4), shuffle=False, verbose=0)
    for worker in range(2):
        alone = network()
        alone.set_weights(start)
        optimizer = keras.optimizers.SGD(0.1)
        own = [data.skip(4 * k).take(4).batch(2) for k in range(2)]
        own.append(data.skip(8).batch(2))
        for slices in own:
            x, y = next(iter(slices.skip(worker)))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(alone(x) - y))
            variables = alone.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        for variable, expected in zip(
            model.trainable_variables, alone.trainable_variables, strict=True
        ):
            found = compat.native_variable(variable).worker_values()[worker]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    whole = model.predict(data.batch(4).map(lambda x, y: x), verbose=0)
    alone.set_weights(start)
    expected = np.concatenate([alone(x).numpy() for x, _ in data.batch(5)])
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    for kind in ("ragged", "sparse"):  # as a cluster counts them
        assert int(tf.shape(INPUTS[kind], tf.int64)[0]) == ROWS


def test_what_has_a_mean_is_averaged(strategy):
    s = strategy(2)

    def values(*pair):
        return s.experimental_distribute_values_from_function(
            lambda context: tf.constant(pair[context.replica_id_in_sync_group])
        )

    mean = s.reduce(
        "MEAN",
        {
            "a": values(1.0, 2.0),
            "b": (values(True, False), values("x", "y"), values(2, 4)),
            "c": values([1.0, 2.0], [3.0]),
        },
        axis=None,
    )
    assert float(mean["a"]) == 1.5
    flag, word, count = mean["b"]
    assert (bool(flag), word.numpy(), int(count)) == (True, b"x", 3)
    assert mean["c"].numpy().tolist() == [1.0, 2.0]


def test_a_model_of_a_fixed_batch_size(strategy):
    """Which is what each worker gets, as under `MirroredStrategy`."""
    with strategy(2).scope():
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(4, 3, 2)),
                keras.layers.LSTM(5, stateful=True),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizers.EASGD(0.1), "mse")
    x = np.random.default_rng(1).normal(size=(16, 3, 2)).astype("float32")
    y = x[:, 0, :1]
    losses = model.fit(x, y, batch_size=8, epochs=9, shuffle=False, verbose=0)
    assert losses.history["loss"][-1] < losses.history["loss"][0]
