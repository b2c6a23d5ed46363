"""Averages of the center that begin with the first cut of the learning rate.

Section 4.3.1 of the thesis. When they have begun they are what `average_from`
with that number of updates gives; what is expected is told by hand.
"""

import json

import keras
import numpy as np
import pytest

from tests import center_average_test as averages
from tests import elastic_multi_worker_test as elastic
from tests import quadratic_support as quadratic
from tests import reference
from tests.family_exact_test import turns
from tf_elastic import compat
from tf_elastic import core
from tf_elastic import optimizers
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import VariableSpec
from tf_elastic.core import rules

cluster, worker = elastic.cluster, elastic.worker

STEPS = 12
CUT = 7  # the first step of a lower rate


# Keras rounds a schedule's rates to float32, which does not change these.
HIGH, LOW = 1 / 16, 1 / 64


def cut_at(step):
    """A schedule: Keras has the boundary's step belong to what is before."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [step - 1], [HIGH, LOW]
    )


def eta(step):
    return HIGH if step < CUT else LOW


# The rule.

FLAGS = [0, 0, 0, 1, 0, 1, 1, 1]  # Another child's rate is not cut yet.


@pytest.mark.parametrize("rate", [None, 0.25])
def test_the_rule_begins_when_a_child_first_says_so(rate):
    rule = rules.TimeAverage(rules.Add(), from_first_cut=True)
    same = rules.TimeAverage(rules.Add(), average_from=3)
    assert same.numbers == {}
    moves = np.random.default_rng(0).normal(size=(len(FLAGS), 3))
    found, expected = rule.init(np.ones(3)), same.init(np.ones(3))
    kept = rule.numbers
    for version, (move, flag) in enumerate(zip(moves, FLAGS, strict=True)):
        rates = {"averaging_rate": rate, "num_workers": 2}
        now = rule.rates_at(
            {**rates, rules.IS_CUT: flag},
            rules.Context(float(version), kept=kept),
        )
        kept = {name: now[name] for name in rule.numbers}
        found = rule.apply(found, move, now)
        then = same.rates_at(rates, rules.Context(float(version)))
        expected = same.apply(expected, move, then)
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])


def test_the_rule_is_json():
    rule = rules.TimeAverage.beginning(rules.Elastic(), "first_cut")
    text = json.dumps(rule.config())
    assert rules.from_config(json.loads(text)) == rule
    assert rules.TimeAverage.beginning(rules.Add(), 3) == rules.TimeAverage(
        rules.Add(), 3
    )


def test_what_is_no_such_rule():
    with pytest.raises(ValueError, match="or with the first cut"):
        rules.TimeAverage(average_from=3, from_first_cut=True)
    with pytest.raises(ValueError, match="must be a bool"):
        rules.from_config({"rule": "time_average", "from_first_cut": 1})
    rule = rules.TimeAverage(rules.Elastic(), from_first_cut=True)
    rates = {"moving_rate": 0.1, "beta": 0.2, "num_workers": 2}
    for value in (None, 0.5, 2):
        with pytest.raises(ValueError, match="`is_cut` must be 0 or 1"):
            rule.check({**rates, "is_cut": value})
    rule.check({**rates, "is_cut": 1.0})
    with pytest.raises(ValueError, match="works both ways"):
        core.one_way.check_rule(rule)


def test_a_center_server_keeps_when_it_has_begun():
    """Through its snapshots, which are JSON and arrays."""
    rule = rules.TimeAverage(rules.Elastic(), from_first_cut=True)
    variables = [VariableSpec("w", (3,), "float64", PARAMETERS)]
    description = Layout(variables, 1, rule).describe()

    def new_state():
        state = CenterState(0)
        state.describe(description)
        state.begin([np.ones(3)])
        return state

    def push(state, point, is_cut):
        rates = {"moving_rate": 0.2, "beta": 0.4, "num_workers": 2}
        points = [np.full(3, point)]
        before = state.values[0].copy()
        state.exchange(
            points,
            {**rates, "averaging_rate": None, "is_cut": is_cut},
            0,
            points,
        )
        state.version += 1
        return before

    state = new_state()
    push(state, 2.0, 0.0)
    push(state, 3.0, 0.0)
    np.testing.assert_array_equal(state.shown()[0], state.values[0])
    first = push(state, 4.0, 1.0)
    np.testing.assert_array_equal(state.shown()[0], first)
    second = push(state, 5.0, 0.0)
    np.testing.assert_allclose(state.shown()[0], (first + second) / 2)
    kept, arrays = state.kept()
    again = new_state()
    again.keep(json.loads(json.dumps(kept)), arrays)
    third = push(again, 6.0, 0.0)
    np.testing.assert_allclose(again.shown()[0], (first + second + third) / 3)


# In one process.


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("kind", "rate", "order"),
    [
        ("EASGD", "polyak", "jacobi"),
        pytest.param("EAMSGD", 0.25, "jacobi", marks=pytest.mark.full),
        ("EAMSGD", 0.25, "gauss_seidel"),
        ("Elastic", "polyak", "gauss_seidel"),
        pytest.param("Elastic", 0.25, "jacobi", marks=pytest.mark.full),
    ],
)
def test_it_is_the_average_since_then(strategy, kind, rate, order):
    kinds = {
        "EASGD": optimizers.EASGD,
        "EAMSGD": lambda rate, **kwargs: optimizers.EAMSGD(
            rate, momentum=0.5, **kwargs
        ),
        "Elastic": lambda rate, **kwargs: optimizers.Elastic(
            keras.optimizers.Adam(rate), **kwargs
        ),
    }
    records = []
    for options in ({"center_average": rate, "average_from": "first_cut"}, {}):
        with strategy(3, order).scope():
            model = quadratic.build(
                lambda options=options: kinds[kind](
                    cut_at(CUT), communication_period=2, **options
                )
            )
        records.append(averages.Record())
        quadratic.fit(model, range(3), STEPS, callbacks=[records[-1]])
    averaged, plain = records
    np.testing.assert_allclose(averaged.centers, plain.shown, rtol=1e-12)
    # Exchanges are before steps 0, 2, ..., or after steps 1, 3, ...
    offset = 1 if order == "gauss_seidel" else 0
    updates = [(k + offset) % 2 == 0 for k in range(STEPS)]
    start = sum(updates[:CUT])
    expected = averages.averages(plain.shown, map(int, updates), rate, start)
    np.testing.assert_allclose(averaged.shown, expected, rtol=1e-12)
    assert np.abs(averaged.shown[-1] - plain.shown[-1]).max() > 1e-4


@pytest.mark.usefixtures("float64")
def test_each_visit_of_a_round_is_an_update(strategy):
    with strategy(2, "round_robin").scope():
        model = quadratic.build(
            lambda: optimizers.EASGD(
                cut_at(CUT),
                beta=0.5,
                communication_period=1,
                center_average="polyak",
                average_from="first_cut",
            )
        )
    record = averages.Record()
    quadratic.fit(model, range(2), STEPS, callbacks=[record])
    center = quadratic.INITIAL.copy()
    x, total = [center.copy() for _ in range(2)], []
    for step in range(STEPS):
        for i in range(2):
            if step >= CUT:
                total.append(center)
            difference = x[i] - center
            gradient = quadratic.gradient(i, step, x[i])
            x[i] = x[i] - eta(step) * gradient - 0.25 * difference
            center = center + 0.25 * difference
        np.testing.assert_allclose(record.centers[step], center, rtol=1e-12)
        mean = np.mean(total, axis=0) if total else center
        np.testing.assert_allclose(record.shown[step], mean, rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("averaging", ["polyak", 0.1])
def test_downpour(strategy, averaging):
    """Pushes come after each step: those of step `CUT` begin it."""
    make = {
        "polyak": optimizers.ADownpour,
        0.1: lambda *args, **kwargs: optimizers.MVADownpour(
            *args, averaging_rate=0.1, **kwargs
        ),
    }[averaging]
    p = 2
    with strategy(p, "round_robin").scope():
        model = quadratic.build(
            lambda: make(cut_at(CUT), average_from="first_cut")
        )
    record = averages.Record()
    quadratic.fit(model, range(p), STEPS, callbacks=[record])
    expected = reference.downpour(
        quadratic.gradient,
        quadratic.INITIAL,
        num_workers=p,
        communication_period=1,
        learning_rate=eta,
        schedule=turns(p, STEPS + 1),
        averaging=averaging,
        average_from=p * CUT,
    )
    # The algorithm pushes when the next period begins, a round later.
    after = expected["average"][2 * p :: p][:STEPS]
    np.testing.assert_allclose(record.shown, after, rtol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("average", ["averaged", "moving_average"])
def test_the_sequential_baselines(strategy, average):
    kwargs = {} if average == "averaged" else {"averaging_rate": 0.1}
    make = {
        "averaged": optimizers.AveragedSGD,
        "moving_average": optimizers.MovingAverageSGD,
    }[average]
    with strategy(1).scope():
        model = quadratic.build(
            lambda: make(cut_at(CUT), average_from="first_cut", **kwargs)
        )
    record = averages.Record()
    quadratic.fit(model, range(1), STEPS, callbacks=[record])
    expected = getattr(reference, f"{average}_sgd")(
        quadratic.gradient,
        quadratic.INITIAL,
        learning_rate=eta,
        num_steps=STEPS,
        average_from=CUT,
        **kwargs,
    )
    np.testing.assert_allclose(record.shown, expected["center"][1:], rtol=1e-12)


class SetRate(keras.callbacks.Callback):
    """Sets the learning rate before some steps, as callbacks do."""

    def __init__(self, rates):
        super().__init__()
        self.rates = rates
        self.step = 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.step in self.rates:
            self.model.optimizer.learning_rate = self.rates[self.step]
        self.step += 1


def assert_is_mean_since(shown, x, start):
    """Until then it is the last point from which a step was taken."""
    for t, z in enumerate(shown):
        mean = x[start : t + 1].mean(axis=0) if t >= start else x[t]
        np.testing.assert_allclose(z, mean, rtol=1e-10)


def train_averaged(strategy, callbacks, **kwargs):
    """What is shown after each step, and the points between steps."""
    with strategy(1).scope():
        model = quadratic.build(
            lambda: optimizers.AveragedSGD(0.01, average_from="first_cut")
        )
    record, points = averages.Record(), [quadratic.INITIAL]
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: points.append(
            np.concatenate([v[0] for v in model.optimizer.worker_points()])
        )
    )
    quadratic.fit(
        model, range(1), callbacks=[*callbacks, record, note], **kwargs
    )
    return np.array(record.shown), np.array(points)


@pytest.mark.usefixtures("float64")
def test_a_rate_that_warms_up_is_not_cut(strategy):
    """It is when it is first below the largest that there was."""
    rates = {0: 0.01, 2: 0.02, 4: 0.05, 8: 0.04, 9: 0.2}
    shown, x = train_averaged(strategy, [SetRate(rates)], steps=STEPS)
    assert_is_mean_since(shown, x, 8)


@pytest.mark.usefixtures("float64")
def test_without_a_cut_it_never_begins(strategy):
    shown, x = train_averaged(strategy, [], steps=STEPS)
    np.testing.assert_array_equal(shown, x[:-1])


@pytest.mark.usefixtures("float64")
def test_a_plateau_begins_it(strategy):
    """The callback cuts the rate after the second epoch, of 4 steps each."""
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.2, patience=1, min_delta=1e9, cooldown=9
    )
    shown, x = train_averaged(strategy, [plateau], steps=4, epochs=4)
    assert_is_mean_since(shown, x, 8)


@pytest.mark.usefixtures("float64")
def test_of_several_optimizers_inside_the_first_ones_counts(strategy):
    with strategy(1).scope():
        model = quadratic.build(
            lambda: optimizers.Elastic(
                keras.optimizers.MultiOptimizer(
                    keras.optimizers.OptimizerMap(
                        keras.optimizers.SGD(cut_at(3))
                    )
                ),
                communication_period=1,
                center_average="polyak",
                average_from="first_cut",
            )
        )
    quadratic.fit(model, range(1), 8)
    assert int(model.optimizer._cut_at.numpy()) == 3


@pytest.mark.usefixtures("float64")
def test_a_step_of_several_calls_is_looked_at_once(strategy):
    """With gradient accumulation a local step is several calls."""
    with strategy(1).scope():
        model = quadratic.build(
            lambda: optimizers.EASGD(
                cut_at(5),
                gradient_accumulation_steps=2,
                communication_period=1,
                center_average="polyak",
                average_from="first_cut",
            )
        )
    quadratic.fit(model, range(1), 8)
    # Calls 4 and 5 are the third step, whose update has the rate of call 5.
    assert int(model.optimizer._cut_at.numpy()) == 2


@pytest.mark.parametrize("steps", [4, 8])  # before the cut, and after it
def test_it_is_kept_in_files(strategy, tmp_path, steps):
    path = str(tmp_path / "m.keras")
    with strategy(2).scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
        model.compile(
            optimizers.EASGD(
                cut_at(6),
                communication_period=1,
                center_average="polyak",
                average_from="first_cut",
            ),
            loss="mean_squared_error",
        )
    x, y = elastic.X, np.eye(3, dtype="float32")[elastic.Y]

    def fit(model, rows):
        model.fit(x[rows], y[rows], batch_size=12, shuffle=False, verbose=0)

    fit(model, slice(0, 12 * steps))
    model.save(path)
    with strategy(2).scope():
        again = keras.models.load_model(path)
    assert again.optimizer.average_from == "first_cut"
    for one in (model, again):
        fit(one, slice(0, 12 * 7))
    begun = model.optimizer._center_numbers
    assert {name: float(v.numpy()) for name, v in begun.items()} == {
        "average_has_begun": 1.0,
        "average_begins_at": 6.0,
    }
    for one, other in zip(
        [*model.weights, *model.optimizer.variables],
        [*again.weights, *again.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(
            compat.native_variable(one).worker_values(),
            compat.native_variable(other).worker_values(),
        )
        np.testing.assert_array_equal(one.numpy(), other.numpy())


# In a cluster.


@pytest.mark.parametrize(
    "protocol",
    [
        "overlapped",
        "blocking",
        pytest.param("synchronous", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("kind", ["easgd", "adownpour"])
def test_in_a_cluster_it_is_as_from_that_update(
    cluster, worker, protocol, kind
):
    """With two servers, each of which has its own count."""
    make = {
        "easgd": lambda start: optimizers.EASGD(
            cut_at(CUT),
            communication_period=2,
            center_average="polyak",
            average_from=start,
            jit_compile=False,
        ),
        "adownpour": lambda start: optimizers.ADownpour(
            cut_at(CUT), average_from=start, jit_compile=False
        ),
    }[kind]
    # Before steps 2, 4, ..., as nothing is brought before a step; or after
    # each step.
    updates = {"easgd": len(range(2, CUT, 2)), "adownpour": CUT}[kind]
    runs = []
    for start in ("first_cut", updates):
        servers = cluster(2)
        strategy = worker(servers, protocol=protocol, closing=False)
        model = elastic.compiled(strategy, lambda start=start: make(start))
        elastic.fit(model)
        runs.append(servers.shards)
    for one, other in zip(*runs, strict=True):
        assert one.version == other.version > updates
        for name in ("center", "average"):
            np.testing.assert_array_equal(
                one.state.slots[name][0], other.state.slots[name][0]
            )
        difference = one.state.slots["average"][0] - one.arrays[0]
        assert np.abs(difference).max() > 1e-4


# What is refused.


def test_it_needs_an_average():
    with pytest.raises(ValueError, match="needs `center_average`"):
        optimizers.EASGD(average_from="first_cut")


@pytest.mark.parametrize("value", ["cut", "first", ""])
def test_what_is_no_beginning(value):
    with pytest.raises(ValueError, match='an integer .* or "first_cut"'):
        optimizers.ADownpour(average_from=value)
