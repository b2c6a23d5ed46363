"""Cuts of the learning rate when the online predictive loss stagnates.

Sections 4.2 and 4.3.1 of the thesis. What is expected is told by hand: the
losses before each step, their windows, the cuts, the workers, the average.
"""

import csv
import json
import math

import keras
import numpy as np
import pytest

import train
from tests import center_average_test as averages
from tests import elastic_multi_worker_test as elastic
from tests import quadratic_support as quadratic
from tests import worker_begins_test as begins
from tests.elastic_multi_worker_job import build as build_in_cluster
from tf_elastic import optimizers
from tf_elastic.callbacks import CutOnStagnation
from tf_elastic.callbacks import cut_state
from tf_elastic.core import stagnation

cluster, worker = elastic.cluster, elastic.worker

P, TAU, ETA, BETA, PATIENCE, DELTA = 3, 2, 0.1, 0.6, 3, 0.01
# Windows that do not divide an epoch, and ones that are it.
STEPS, EPOCHS, WINDOW = 10, 20, 7
HESSIAN = quadratic._HESSIAN


def loss_of(i, step, x):
    return x @ HESSIAN @ x / 2 - x @ quadratic._NOISE[i, step]


def by_hand(window, cuts):
    """EASGD, Jacobi: rates, centers and where the rate was cut.

    A loss has stagnated when the window since the last cut that was last lower
    than all before it, by `DELTA`, was `PATIENCE` windows ago.
    """
    x = [quadratic.INITIAL.copy() for _ in range(P)]
    center, eta, left = quadratic.INITIAL.copy(), ETA, list(cuts)
    rates, centers, cut_at = [], [], []
    losses, windows = [], []
    for t in range(STEPS * EPOCHS):
        step = t % STEPS
        losses.append(np.mean([loss_of(i, step, x[i]) for i in range(P)]))
        gradients = [quadratic.gradient(i, step, x[i]) for i in range(P)]
        if t % TAU == 0:
            pulls = [BETA / P * (x[i] - center) for i in range(P)]
            x = [x[i] - pulls[i] for i in range(P)]
            center = center + sum(pulls)
        x = [x[i] - eta * gradients[i] for i in range(P)]
        rates.append(eta)
        centers.append(center)
        if len(losses) == window:
            windows.append(np.mean(losses))
            losses = []
            lowest = 0
            for k, mean in enumerate(windows):
                if mean < windows[lowest] - DELTA:
                    lowest = k
            if len(windows) - 1 - lowest == PATIENCE:
                windows = []
                if left:
                    eta /= left.pop(0)
                    cut_at.append(t + 1)
    return np.array(rates), np.array(centers), cut_at


class Rates(keras.callbacks.Callback):
    """The learning rate of each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def easgd(**options):
    return optimizers.EASGD(ETA, beta=BETA, communication_period=TAU, **options)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("window", [WINDOW, "epoch"])
def test_all_workers_are_cut_and_the_average_begins(strategy, window):
    with strategy(P).scope():
        model = quadratic.build(
            lambda: easgd(center_average="polyak", average_from="first_cut")
        )
    cut = CutOnStagnation(
        (5, 2), window=window, patience=PATIENCE, min_delta=DELTA
    )
    seen, record = Rates(), averages.Record()
    quadratic.fit(
        model, range(P), STEPS, epochs=EPOCHS, callbacks=[cut, seen, record]
    )
    rates, centers, cut_at = by_hand(
        STEPS if window == "epoch" else window, (5, 2)
    )
    assert len(cut_at) == 2 and cut_at[-1] < STEPS * EPOCHS - 20
    np.testing.assert_allclose(seen.seen, rates, rtol=1e-12)
    np.testing.assert_allclose(record.centers, centers, rtol=1e-10)
    updates = [int(t % TAU == 0) for t in range(STEPS * EPOCHS)]
    start = sum(updates[: cut_at[0]])
    expected = averages.averages(centers, updates, "polyak", start)
    np.testing.assert_allclose(record.shown, expected, rtol=1e-10)
    assert np.abs(record.shown[-1] - centers[-1]).max() > 1e-4


@pytest.mark.usefixtures("float64")
def test_it_goes_on_from_its_file(strategy, tmp_path):
    """In another process, from the weights of an epoch that is not the last.

    A window has begun there.
    """
    weights, path = str(tmp_path / "m.weights.h5"), tmp_path / "known.jsonl"

    def make():
        with strategy(P).scope():
            model = quadratic.build(easgd)
            model.optimizer.build(model.trainable_variables)
        return model, CutOnStagnation(
            (5, 2, 3), window=WINDOW, patience=1, min_delta=0.0, state_file=path
        )

    def fit(model, *callbacks, **kwargs):
        seen = Rates()
        quadratic.fit(
            model, range(P), STEPS, callbacks=[*callbacks, seen], **kwargs
        )
        return seen.seen

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                self.model.save_weights(weights)

    model, cut = make()
    whole = fit(model, cut, Save(), epochs=8)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epochs"] for row in rows] == list(range(1, 9))
    assert rows[3]["batches"] and 0 < rows[3]["cuts_done"] < 3
    again, cut = make()
    again.load_weights(weights)
    rest = fit(again, cut, epochs=8, initial_epoch=4)
    assert rest == whole[4 * STEPS :] and len(set(rest)) > 1
    for one, other in zip(
        model.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows

    # In one process nothing but the object is needed; epoch 0 begins anew.
    model, cut = make()
    cut.state_file = None
    parts = fit(model, cut, epochs=4) + fit(
        model, cut, epochs=8, initial_epoch=4
    )
    assert parts == whole
    fit(model, cut, epochs=1)
    assert cut._state.cuts_done == 0


def never_lower(**kwargs):
    return CutOnStagnation(window=1, patience=1, min_delta=1e9, **kwargs)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_in_a_cluster_the_chief_decides(cluster, worker, protocol):
    servers = cluster(2)

    def build(index):
        return build_in_cluster(
            worker(servers, index, 2, protocol),
            lambda: easgd(
                center_average="polyak",
                average_from="first_cut",
                jit_compile=False,
            ),
            run_eagerly=protocol == "blocking",
        )

    def rate(model):
        return float(model.optimizer.learning_rate)

    def has_begun():
        return [
            shard.state._last_rates["average_has_begun"]
            for shard in servers.shards
        ]

    chief, other = build(0), build(1)
    begins.train(other, 6, callbacks=[never_lower()])
    assert rate(other) == ETA and has_begun() == [0, 0]
    # The first window is the lowest so far, the second is not lower.
    begins.train(chief, 4, callbacks=[never_lower(cuts=(5,))])
    assert rate(chief) == pytest.approx(ETA / 5)
    begins.train(other, 4, callbacks=[never_lower()])
    assert rate(other) == rate(chief) and has_begun() == [1, 1]
    # A chief that is started again has the second cut before it.
    again = build(0)
    begins.train(again, 12, callbacks=[never_lower(cuts=(5, 2))])
    assert rate(again) == pytest.approx(ETA / 10)


def test_all_optimizers_inside_are_cut():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(
        keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                keras.optimizers.SGD(0.5, name="inside")
            )
        ),
        loss="mse",
    )
    history = model.fit(
        np.ones((8, 3)),
        np.ones((8, 1)),
        batch_size=4,
        epochs=2,
        verbose=0,
        callbacks=[never_lower(cuts=(4,))],
    ).history
    assert history["learning_rate/inside"] == pytest.approx([0.125] * 2)


def test_a_window_ends_where_a_callback_first_can():
    """Three batches in one call, windows of two."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), loss="mse", steps_per_execution=3)
    seen = Rates()
    model.fit(
        np.ones((18, 3)),
        np.ones((18, 1)),
        batch_size=2,
        verbose=0,
        callbacks=[
            CutOnStagnation((5, 2), window=2, patience=1, min_delta=1e9),
            seen,
        ],
    )
    assert seen.seen == pytest.approx([0.5, 0.5, 0.1])


def test_train_py_cuts_and_goes_on(tmp_path):
    """A rate near 0 leaves the loss to the noise: no window is long lower."""
    argv = [
        "train.py",
        *("--optimizer=easgd", "--workers=2", "--device=cpu", "--verbose=0"),
        *("--learning_rate=1e-6", "--steps_per_epoch=6", "--seed=1"),
        *("--center_average=polyak", "--average_from=first_cut"),
        *("--rate_cuts=5,2", "--rate_window=2", "--rate_patience=1"),
        *("--jit_compile=false", f"--model_dir={tmp_path}", "--epochs=3"),
    ]

    def rates():
        with open(tmp_path / "history.csv", encoding="utf-8") as file:
            return [float(row["learning_rate"]) for row in csv.DictReader(file)]

    def known():
        text = (tmp_path / "rate_cuts.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    assert train.main(argv) == 0
    assert rates()[-1] == pytest.approx(1e-7)
    assert known()[-1]["cuts_done"] == 2
    again = ["train.py", f"--model_dir={tmp_path}", "--resume", "--epochs=4"]
    assert train.main(again) == 0
    assert rates()[-1] == pytest.approx(1e-7) and len(rates()) == 4
    assert known()[-1]["epochs"] == 4 and known()[-1]["cuts_done"] == 2


def test_nan_is_not_lower():
    known = stagnation.Stagnation()
    for loss in (math.nan, 2.0, math.nan, 1.0):
        known = known.after(loss, 0.0)
    assert known == (1.0, 0)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({"cuts": cuts}, "`cuts` must be numbers above 1")
            for cuts in ((), (5, 1), "52", (math.inf,), 5, (True,))
        ),
        *(
            ({"window": window}, "`window` must be")
            for window in (0, 2.0, "batch", True)
        ),
        *(
            ({"patience": patience}, "`patience` must be an integer >= 1")
            for patience in (0, 1.5, True)
        ),
        *(
            ({"min_delta": delta}, "`min_delta` must be")
            for delta in (-1e-3, math.nan, math.inf, "0")
        ),
    ],
)
def test_a_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        CutOnStagnation(**arguments)


def fit_dense(callback, rate=0.1, **kwargs):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    model.fit(
        np.ones((8, 3)),
        np.ones((8, 1)),
        verbose=0,
        callbacks=[callback],
        **kwargs,
    )


def test_a_schedule_cannot_be_cut():
    schedule = optimizers.schedules.InverseSqrtDecay(0.1, decay=0.1)
    with pytest.raises(ValueError, match="learning rate is InverseSqrtDecay"):
        fit_dense(CutOnStagnation(), schedule)


@pytest.mark.parametrize("window", [1, "epoch"])
def test_what_is_not_logged(window):
    callback = CutOnStagnation(monitor="val_loss", window=window)
    with pytest.raises(ValueError, match="monitor='val_loss'.* logged are"):
        fit_dense(callback)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"epochs": 1}', "[" * 100_000, "\x00"]
)
def test_a_file_of_something_else(tmp_path, text):
    path = tmp_path / "known.jsonl"
    path.write_text(text)
    callback = CutOnStagnation(state_file=path)
    with pytest.raises(ValueError, match="must be what `CutOnStagnation`"):
        fit_dense(callback, epochs=2, initial_epoch=1)
    assert path.read_text() == text


def test_a_full_disk_does_not_end_training(tmp_path):
    """Here a file is where the folder should be."""
    (tmp_path / "file").write_text("")
    fit_dense(CutOnStagnation(state_file=tmp_path / "file" / "known"))
    assert cut_state.read(tmp_path / "none", 3) == cut_state.CutState()
