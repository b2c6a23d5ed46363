"""One table: every optimizer through every way of being used.

`conformance_cases.py` has the optimizers. Tests share what is trained: a
model of each, with statistics and random masks, that is saved, resumed and
loaded. What Keras' options do is in `conformance_options_test.py`.
"""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tests import conformance_cases as cases
from tests import conformance_support as support
from tests.conformance_cases import shows
from tests.conformance_support import TRAIN
from tests.conformance_support import X
from tests.conformance_support import Y
from tests.conformance_support import assert_same_state
from tests.conformance_support import compiled
from tests.conformance_support import fit
from tests.conformance_support import state
from tf_elastic import compat


@pytest.fixture(scope="module", params=cases.params())
def case(request):
    """Every optimizer in turn; what is made for one goes with it."""
    return request.param


class Trained(NamedTuple):
    """A noisy model that was trained for two epochs in graphs."""

    model: Any
    first: list  # its state after the first epoch
    backup: Any  # the folder of BackupAndRestore, of then
    checkpoint: str  # of then
    end: list  # its state after all
    losses: tuple  # before and after all
    reported: float  # by `validation_data`, at the end


@pytest.fixture(scope="module")
def deterministic():
    """Runs give the same bits."""
    tf.config.experimental.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.fixture(scope="module")
def trained(case, deterministic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    model = compiled(case, support.noisy_network)
    before = loss_of(model)
    fit(model, callbacks=[backup_in(folder / "backup")])
    first = state(model)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(str(folder / "checkpoint"))
    # Of the center: what is shown when `fit` has ended knows more.
    at_end = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: at_end.append(loss_of(model))
    )
    history = fit(
        model,
        epochs=2,
        initial_epoch=1,
        validation_data=TRAIN,
        callbacks=[note],
    ).history.history
    return Trained(
        model,
        first,
        folder / "backup",
        path,
        state(model),
        (before, at_end[-1]),
        history["val_loss"][-1],
    )


def loss_of(model):
    """The center's, of all data at once."""
    return float(model.loss(Y, model(X, training=False)))


@shows("graph")
def test_graph_trains_the_center(trained):
    before, after = trained.losses
    assert after < 0.99 * before
    assert trained.reported == pytest.approx(after, rel=1e-5)


@shows("eager")
def test_eager_is_the_same(case, trained):
    model = fit(compiled(case, support.noisy_network, run_eagerly=True))
    assert_same_state(state(model), trained.first, exactly=False)


@shows("steps_per_execution", "xla")
def test_steps_per_execution_and_xla_are_the_same(case, trained):
    """3 does not divide the 8 steps; the period is 3 or 1."""
    several = in_executions(case, jit_compile=cases.shows_xla_too(case))
    assert_same_state(state(several), trained.first, exactly=False)


@shows("xla", of=lambda case: cases.is_left_out(case, "xla"))
def test_xla_is_the_same(case, trained):
    several = in_executions(case, jit_compile=True)
    assert_same_state(state(several), trained.first, exactly=False)


def in_executions(case, **options):
    """Trained by executions of several steps."""
    return fit(
        compiled(case, support.noisy_network, options, steps_per_execution=3)
    )


def backup_in(folder):
    return keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)


@shows("backup")
def test_backup_and_restore_resumes_to_the_bit(case, trained):
    """In a fresh model, from other seeds."""
    model = compiled(case, support.noisy_network, seed=2)
    fit(model, epochs=2, callbacks=[backup_in(trained.backup)])
    assert_same_state(state(model), trained.end)


@shows("checkpoint")
def test_checkpoint_resumes_to_the_bit(case, trained):
    """The second half once more; a fresh model is where that begins."""
    model = trained.model
    fresh = compiled(case, support.noisy_network, seed=3)
    fresh.optimizer.build(fresh.trainable_variables)
    for again in (model, fresh):
        status = tf.train.Checkpoint(
            model=again, optimizer=again.optimizer
        ).restore(trained.checkpoint)
        status.assert_existing_objects_matched()
    assert_same_state(state(fresh), trained.first)
    assert_same_state(state(model), trained.first)
    fit(model, epochs=2, initial_epoch=1)
    assert_same_state(state(model), trained.end)


@shows("saved")
def test_saved_model_is_the_center(case, trained, tmp_path):
    model = trained.model
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "center.weights.h5")

    plain = keras.models.load_model(tmp_path / "model.keras")
    assert type(plain.optimizer) is type(model.optimizer)
    weights = plain.get_weights()
    np.testing.assert_allclose(
        plain(X, training=False), expected, rtol=1e-5, atol=1e-6
    )
    plain.set_weights([np.zeros_like(w) for w in weights])
    plain.load_weights(tmp_path / "center.weights.h5")
    for found, saved in zip(plain.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, saved)
    with support.new_strategy(case).scope():
        again = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(state(again), state(model))


@shows("statistics")
def test_center_statistics_follow_the_workers(case, trained):
    moving_mean = trained.model.layers[1].moving_mean
    moving_mean = compat.native_variable(moving_mean)
    workers, center = moving_mean.worker_values(), moving_mean.numpy()
    assert np.abs(center).max() > 0
    if case.num_workers > 1:
        assert np.abs(workers[0] - workers[1]).max() > 0


@pytest.fixture
def policy():
    """`policy(name)` sets Keras' dtype policy for one test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def plain(case):
    """One without random masks (they depend on the precision)."""
    initial = compiled(case, run_eagerly=True)
    weights = initial.get_weights()
    return weights, fit(initial).get_weights()


@shows("mixed_bfloat16", "mixed_float16")
@pytest.mark.parametrize("use", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(case, plain, policy, use):
    """Eight steps lead to about where they do in full precision."""
    policy(use)
    scaled = use == "mixed_float16"
    model = fit(compiled(case, run_eagerly=not scaled))
    assert scaled == isinstance(
        model.optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert {v.compute_dtype for v in model.layers} == {use[len("mixed_") :]}
    for start, full, mine in zip(*plain, model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, full, atol=0.02)
        assert np.abs(mine - start).max() > 0


@shows("sparse")
def test_sparse_gradients_equal_dense_ones(case):
    sparse = compiled(case, support.lookup_network)
    dense = compiled(case, support.product_network, run_eagerly=True)
    dense.set_weights(sparse.get_weights())
    for model in (sparse, dense):
        support.fit_words(case, model, case.num_workers)
    support.assert_same_workers(sparse, dense)


@shows("config")
def test_config_round_trip(case):
    optimizer = case.make()
    config = optimizer.get_config()
    again = type(optimizer).from_config(config.copy())
    assert again.get_config() == optimizer.get_config()
    serialized = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(serialized).get_config() == config


def test_every_use_of_the_table_is_shown():
    shown = cases.SHOWN[__name__]
    assert set(shown) == set(cases.USES)
    assert set(shown.values()) <= set(globals())
