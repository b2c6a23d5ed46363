"""An average over time of the elastic center: eq. 3.13 and its like."""

import itertools

import keras
import numpy as np
import pytest

from tests import elastic_multi_worker_test as elastic
from tests import quadratic_support as quadratic
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import theory
from tf_elastic.optimizers import worker_points

cluster, worker = elastic.cluster, elastic.worker

STEPS = 12
KINDS = {
    "EASGD": lambda **kwargs: optimizers.EASGD(0.05, **kwargs),
    "EAMSGD": lambda **kwargs: optimizers.EAMSGD(0.02, momentum=0.5, **kwargs),
    "Elastic": lambda **kwargs: optimizers.Elastic(
        keras.optimizers.Adam(0.02), **kwargs
    ),
}


class Record(keras.callbacks.Callback):
    """Center and what is shown, of all parameters, after each step."""

    def __init__(self):
        super().__init__()
        self.centers, self.shown = [], []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        count = len(self.model.trainable_variables)
        self.centers.append(
            np.concatenate(
                [
                    worker_points.center_of(optimizer._exchange, k)
                    for k in range(count)
                ]
            )
        )
        self.shown.append(np.concatenate(self.model.get_weights()))


def averages(centers, updates, rate, average_from=0):
    """Of the center before each of its updates; `updates` of each step.

    Until the update `average_from` it is the center itself.
    """
    average, before, count = quadratic.INITIAL, quadratic.INITIAL, 0
    rows = []
    for center, number in zip(centers, updates, strict=True):
        assert number in (0, 1)
        if number and count >= average_from:
            since = count - average_from
            a = 1 / (since + 1) if rate == "polyak" else rate
            average = (1 - a) * average + a * before
        count += number
        if count <= average_from:
            average = center
        before = center
        rows.append(average)
    return np.array(rows)


# Each method, rate, beginning and order once in `make test`.
CASES = [
    ("EASGD", "polyak", 3, "jacobi"),
    ("EAMSGD", 0.25, 3, "gauss_seidel"),
    ("Elastic", "polyak", 0, "gauss_seidel"),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("kind", "rate", "start", "order"),
    [
        pytest.param(*case, marks=[] if case in CASES else [pytest.mark.full])
        for case in itertools.product(
            KINDS, ["polyak", 0.25], [0, 3], ["jacobi", "gauss_seidel"]
        )
    ],
)
def test_it_is_the_average_of_the_centers(strategy, kind, rate, start, order):
    """And the centers are those of a run that averages nothing."""
    records = []
    for options in (
        {"center_average": rate, "average_from": start},
        {},
    ):
        with strategy(3, order, closing=False).scope():
            model = quadratic.build(
                lambda options=options: KINDS[kind](
                    communication_period=2, **options
                )
            )
        records.append(Record())
        quadratic.fit(model, range(3), STEPS, callbacks=[records[-1]])
    averaged, plain = records
    np.testing.assert_allclose(averaged.centers, plain.shown, rtol=1e-12)
    offset = 1 if order == "gauss_seidel" else 0  # Before a step, or after.
    updates = [(k + offset) % 2 == 0 for k in range(STEPS)]
    expected = averages(plain.shown, map(int, updates), rate, start)
    np.testing.assert_allclose(averaged.shown, expected, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("start", [0, 5])
def test_the_double_average_of_equation_3_13(strategy, start):
    """Of round robin: every visit is an update of the center."""
    with strategy(2, "round_robin", closing=False).scope():
        model = quadratic.build(
            lambda: optimizers.EASGD(
                0.05,
                beta=0.5,
                communication_period=1,
                center_average="polyak",
                average_from=start,
            )
        )
    record = Record()
    quadratic.fit(model, range(2), STEPS, callbacks=[record])
    center = quadratic.INITIAL.copy()
    x, total = [center.copy() for _ in range(2)], []
    for step in range(STEPS):
        for i in range(2):
            total.append(center)
            difference = x[i] - center
            gradient = quadratic.gradient(i, step, x[i])
            x[i] = x[i] - 0.05 * gradient - 0.25 * difference
            center = center + 0.25 * difference
        np.testing.assert_allclose(record.centers[step], center, rtol=1e-12)
        mean = np.mean(total[start:], axis=0) if total[start:] else center
        np.testing.assert_allclose(record.shown[step], mean, rtol=1e-12)


@pytest.mark.parametrize(
    "protocol",
    [
        "overlapped",
        pytest.param("blocking", marks=pytest.mark.full),
        pytest.param("synchronous", marks=pytest.mark.full),
    ],
)
def test_in_a_cluster_the_average_is_looked_at(cluster, worker, protocol):
    servers = cluster(2)
    runs = []
    for average in (None, 0.25):
        servers = cluster(2)
        strategy = worker(servers, protocol=protocol, closing=False)
        model = elastic.compiled(
            strategy, lambda a=average: elastic.easgd(center_average=a)
        )
        elastic.fit(model)
        kernel = compat.native_variable(model.layers[0].kernel)
        runs.append(
            [
                kernel.worker_values(),
                *(shard.arrays[0] for shard in servers.shards),
            ]
        )
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    strategy.extended.data_pass_begins()
    shown = np.concatenate([w.ravel() for w in model.get_weights()])
    held = np.concatenate(
        [shard.state.slots["average"][0] for shard in servers.shards]
    )
    np.testing.assert_array_equal(np.sort(shown), np.sort(held))
    centers = np.concatenate([shard.arrays[0] for shard in servers.shards])
    assert np.abs(held - centers).max() > 1e-3


def test_it_is_kept_in_files(strategy, tmp_path):
    path = str(tmp_path / "m.keras")
    with strategy(2).scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
        model.compile(
            elastic.easgd(center_average="polyak", average_from=3),
            loss="mean_squared_error",
        )
    x, y = elastic.X, np.eye(3, dtype="float32")[elastic.Y]
    model.fit(x, y, batch_size=12, verbose=0)
    model.save(path)
    with strategy(2).scope():
        again = keras.models.load_model(path)
    assert again.optimizer.center_average == "polyak"
    assert again.optimizer.average_from == 3
    for one in (model, again):
        one.fit(x, y, batch_size=12, verbose=0, shuffle=False)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    np.testing.assert_array_equal(
        *(
            worker_points.center_of(each.optimizer._exchange, 0)
            for each in (model, again)
        )
    )


@pytest.mark.parametrize("value", ["mean", 0, 1.5, -0.1, True, np.nan])
def test_what_is_no_average(value):
    with pytest.raises(ValueError, match="`center_average` must be None, "):
        optimizers.EASGD(center_average=value)


@pytest.mark.parametrize("value", [-1, True, 2.0, "first", None])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: optimizers.EASGD(center_average=0.1, average_from=s),
        lambda s: optimizers.AveragedSGD(average_from=s),
        lambda s: optimizers.MVADownpour(average_from=s),
    ],
    ids=["elastic", "sequential", "downpour"],
)
def test_what_is_no_beginning(make, value):
    with pytest.raises(ValueError, match="`average_from` must be an integer"):
        make(value)


def test_nothing_begins_without_an_average():
    with pytest.raises(ValueError, match="needs `center_average`"):
        optimizers.EAMSGD(average_from=3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(
            order, marks=[] if order == "jacobi" else [pytest.mark.full]
        )
        for order in theory.ORDERS
    ],
)
def test_distances_are_those_to_the_center(strategy, order):
    found = []
    for average in (None, 0.1):
        with strategy(2, order, closing=False).scope():
            model = quadratic.build(
                lambda a=average: elastic.easgd(center_average=a)
            )
        quadratic.fit(model, range(2), STEPS)
        found.append(model.optimizer.elastic_distances())
    np.testing.assert_allclose(*found, rtol=1e-10)
    assert found[0].min() > 1e-3
