"""What a center does with messages, and ADMM's steps: the rules on arrays."""

import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tests import reference
from tests.reference.heloco import corrected
from tf_elastic import core
from tf_elastic.core import admm
from tf_elastic.core import orders
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.core.rules import gradients

P, N, STEPS = 3, 5, 60
INITIAL = np.linspace(-1.0, 2.0, N)
TURNS = list(range(P)) * STEPS
# Some workers much oftener than others, none for a long time.
UNEVEN = [0, 0, 1, 0, 0, 0, 2, 0, 1, 1, 0, 2] * 5

_GENERATOR = np.random.default_rng(11)
_NOISE = _GENERATOR.normal(size=(P, STEPS, N))
_FACTOR = _GENERATOR.normal(size=(N, N))
_HESSIAN = _FACTOR @ _FACTOR.T / N + 0.1 * np.eye(N)


def gradient(worker, step, point):
    return _HESSIAN @ point - _NOISE[worker, step]


def pushes(rule, message, schedule, rates, to_array=np.array, tau=1, eta=0.05):
    """Workers that take turns: center and what is shown, after every turn.

    `message(start, end, gradient)` is what a worker pushes that was at
    `start` when it read and is at `end`, with the gradient taken there.
    """
    state = rule.init(to_array(INITIAL))
    rates = {**rates, "num_workers": P}
    x = [to_array(INITIAL) for _ in range(P)]
    read = list(x)
    read_at, clocks, update, now = [0] * P, [0] * P, 0, {}
    centers, shown = [np.array(state["center"])], [np.array(state["center"])]
    for i in schedule:
        g = to_array(gradient(i, clocks[i], np.array(x[i])))
        end = core.sgd_step(x[i], g, eta)
        clocks[i] += 1
        x[i] = end
        if clocks[i] % tau == 0:
            context = Context(update, max(update - read_at[i], 1), kept=now)
            now = rule.rates_at(rates, context)
            delta = rule.delta(message(read[i], end, g), state)
            state = rule.apply(state, delta, now, read[i])
            update += 1
            x[i] = read[i] = rule.begin(state, now)
            read_at[i] = update
        centers.append(np.array(state["center"]))
        shown.append(np.array(state[rule.shown]))
    return np.stack(centers), np.stack(shown)


def the_update(start, end, gradient):
    del gradient
    return end - start


def the_gradient(start, end, gradient):
    del start, end
    return gradient


def relative_error(found, expected):
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


KINDS = {"numpy": np.array, "tensors": lambda a: tf.constant(a, tf.float64)}
each_kind = pytest.mark.parametrize("to_array", KINDS.values(), ids=KINDS)
each_schedule = pytest.mark.parametrize(
    "schedule", [TURNS, UNEVEN], ids=["round_robin", "uneven"]
)


@each_kind
@each_schedule
def test_gradients_with_everything_equal_the_pseudo_code(schedule, to_array):
    rule = rules.HeavyBall(
        adjustment=0.5, scales_by_staleness=True, compensates=True
    )
    found, _ = pushes(
        rule,
        the_gradient,
        schedule,
        {"learning_rate": 0.05, "momentum": 0.5, "compensation": 0.2},
        to_array,
    )
    expected = reference.async_msgd(
        gradient,
        INITIAL,
        num_workers=P,
        learning_rate=0.05,
        momentum=0.5,
        schedule=schedule,
        adjustment=lambda k: k**-0.5,
        staleness_scaling=True,
        delay_compensation=0.2,
    )
    assert expected["staleness"].max() >= P - 1
    assert relative_error(found, expected["center"]) < 1e-12


@each_kind
@each_schedule
def test_nesterov_equals_algorithm_5(schedule, to_array):
    found, _ = pushes(
        rules.Nesterov(),
        the_gradient,
        schedule,
        {"learning_rate": 0.01, "momentum": 0.9},
        to_array,
    )
    expected = reference.mdownpour(
        gradient,
        INITIAL,
        num_workers=P,
        learning_rate=0.01,
        momentum=0.9,
        schedule=schedule,
    )
    assert relative_error(found, expected["center"]) < 1e-12


@pytest.mark.parametrize("averaging", ["polyak", 0.1])
@pytest.mark.parametrize(("tau", "start"), [(1, 0), (4, 0), (1, 5), (4, 20)])
def test_updates_and_their_average_equal_algorithm_3(averaging, tau, start):
    rate = None if averaging == "polyak" else averaging
    found, shown = pushes(
        rules.TimeAverage(rules.Add(), average_from=start),
        the_update,
        TURNS,
        {"averaging_rate": rate},
        tau=tau,
        eta=0.01,
    )
    expected = reference.downpour(
        gradient,
        INITIAL,
        num_workers=P,
        communication_period=tau,
        learning_rate=0.01,
        schedule=TURNS,
        averaging=averaging,
        average_from=start,
    )
    # The algorithm pushes when a period begins, a round after it has ended.
    rounds = STEPS * P - P
    for actual, key in ((found, "center"), (shown, "average")):
        late = expected[key][P:][: rounds + 1 : P]
        assert relative_error(actual[: rounds + 1 : P], late) < 1e-12


@each_kind
def test_the_outer_step_equals_diloco(to_array):
    expected = reference.diloco(
        gradient,
        INITIAL,
        num_workers=P,
        communication_period=4,
        learning_rate=0.05,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        num_steps=STEPS,
    )
    rule = rules.OuterNesterov()
    rates = rule.rates_at(
        {"learning_rate": 0.7, "momentum": 0.9, "num_workers": P}, Context()
    )
    state = rule.init(to_array(INITIAL))
    points = expected["gradient_points"]
    for t in range(3, STEPS, 4):
        ends = [
            points[t, i] - 0.05 * gradient(i, t, points[t, i]) for i in range(P)
        ]
        deltas = [rule.delta(to_array(end), state) for end in ends]
        state = orders.collect(rule, state, deltas, rates)
        wanted = expected["center"][t + 1]
        assert relative_error(state["center"], wanted) < 1e-12


@each_kind
@pytest.mark.parametrize(
    ("tau", "delay", "activation"), [(1, 3, 0.0), (3, 4, 0.2), (1, 2, 0.5)]
)
def test_delayed_nesterov_equals_algorithm_3(tau, delay, activation, to_array):
    found, _ = pushes(
        rules.DelayedNesterov(),
        the_update,
        UNEVEN,
        {
            "learning_rate": 0.7,
            "momentum": 0.9,
            "delay": delay,
            "activation": activation,
        },
        to_array,
        tau=tau,
    )
    expected = reference.async_diloco(
        gradient,
        INITIAL,
        num_workers=P,
        communication_period=tau,
        learning_rate=0.05,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        momentum_delay=delay,
        momentum_activation=activation,
        schedule=UNEVEN,
        together=True,
    )
    assert relative_error(found, expected["center"]) < 1e-12


HALVES = [slice(0, 2), slice(2, N)]


@each_kind
def test_aligned_equals_the_corrections_of_heloco(to_array):
    """Each variable by itself; here two of them, one at a time."""
    expected = reference.heloco(
        gradient,
        INITIAL,
        blocks=HALVES,
        num_workers=P,
        communication_period=3,
        learning_rate=0.2,
        outer_learning_rate=0.7,
        outer_momentum=0.9,
        schedule=UNEVEN,
        together=True,
    )
    assert expected["kinds"][-1].min() > 1  # all three happen
    rule = rules.Aligned()
    rates = {"learning_rate": 0.7, "momentum": 0.9, "weight": P**-0.5}
    state = [rule.init(to_array(INITIAL[part])) for part in HALVES]
    x, clocks = [INITIAL.copy() for _ in range(P)], [0] * P
    read = list(x)
    for k, i in enumerate(UNEVEN):
        x[i] = x[i] - 0.2 * gradient(i, clocks[i], x[i])
        clocks[i] += 1
        if clocks[i] % 3 == 0:
            way = x[i] - read[i]
            state = [
                rule.apply(parent, to_array(way[part]), rates)
                for part, parent in zip(HALVES, state, strict=True)
            ]
            x[i] = read[i] = np.concatenate(
                [np.array(rule.begin(parent, rates)) for parent in state]
            )
        center = np.concatenate([np.array(s["center"]) for s in state])
        assert relative_error(center, expected["center"][k + 1]) < 1e-12


@pytest.mark.parametrize(
    ("way", "velocity"),
    [
        ([3.0, 4.0], [0.0, 0.0]),  # there is none yet
        ([0.0, 0.0], [1.0, 2.0]),
        ([3.0, 4.0], [4.0, -2.9]),  # hardly forwards
        ([3.0, 4.0], [4.0, -3.1]),  # hardly backwards
        ([3.0, 4.0], [-3.0, -4.0]),  # back
        ([3.0, 4.0], [6.0, 8.0]),  # the same
        ([3e-9, 4e-9], [-3.0, 1.0]),  # too short to be seen
        ([3e9, 4e9], [-4.0, 2.9]),  # confident
    ],
)
@each_kind
def test_a_way_that_is_an_edge_of_the_correction(way, velocity, to_array):
    found = rules.Aligned().aligned_way(to_array(way), to_array(velocity))
    expected = corrected(np.array(way), np.array(velocity))
    np.testing.assert_allclose(np.array(found), expected, 1e-12, 1e-25)


def test_a_velocity_may_not_act_more_than_once():
    rule = rules.DelayedNesterov()
    rates = {**RATES, "delay": 4, "activation": 0.25}
    rule.check(rates)
    with pytest.raises(ValueError, match="at most 1 / `delay`"):
        rule.check({**rates, "delay": 5})


def test_the_buffer_is_full_also_when_its_size_has_changed():
    """Of workers that have left: the mean of all that is in it."""
    rule = rules.DelayedNesterov()
    rates = {"learning_rate": 1.0, "momentum": 0.5, "activation": 0.0}
    state, kept = rule.init(np.zeros(1)), {}
    for delay in (4, 4, 2):
        kept = rule.rates_at({**rates, "delay": delay}, Context(kept=kept))
        state = rule.apply(state, np.ones(1), kept)
    assert kept["buffered"] == 0
    assert {k: float(v[0]) for k, v in state.items()} == {
        "center": 1 / 4 + 1 / 4 + 1 / 2 + 0.5,
        "velocity": 1.0,
        "buffer": 0.0,
    }


@each_kind
@pytest.mark.parametrize("first", [P, 2])
def test_the_mean_of_gradients_is_synchronous_sgd(first, to_array):
    # The last worker is half as fast, and late whenever two are enough.
    schedule = TURNS[: 3 * 20] if first == P else [0, 1, 0, 1, 2] * 12
    expected = reference.sync_sgd(
        gradient,
        INITIAL,
        num_workers=P,
        learning_rate=0.05,
        momentum=0.9,
        schedule=schedule,
        first=first,
    )
    rule = rules.MeanGradient()
    rates = {"learning_rate": 0.05, "momentum": 0.9, "num_workers": P}
    state, clocks, came = rule.init(to_array(INITIAL)), [0] * P, []
    for k, i in enumerate(schedule):
        g = gradient(i, clocks[i], expected["workers"][k, i])
        clocks[i] += 1
        if not expected["dropped"][k + 1]:
            came.append(rule.delta(to_array(g), state))
        if len(came) == first:
            now = rule.rates_at(rates, Context(count=first))
            state = orders.collect(rule, state, came, now)
            came = []
        wanted = expected["center"][k + 1]
        assert relative_error(np.array(state["center"]), wanted) < 1e-12
    assert expected["dropped"].sum() == (0 if first == P else 12)


@pytest.mark.parametrize("tau", [1, 4])
@each_kind
def test_admm_equals_equations_3_52_to_3_54(tau, to_array):
    eta, rho = 0.05, 1.5
    x = [to_array(INITIAL) for _ in range(P)]
    multipliers = [0 * x[0] for _ in range(P)]
    parts, anchors, c = list(x), list(x), to_array(INITIAL)
    centers, clocks = [np.array(c)], [0] * P
    for i in UNEVEN:
        if clocks[i] % tau == 0:
            anchors[i] = c
            multipliers[i] = admm.dual_step(multipliers[i], x[i], c)
        g = to_array(gradient(i, clocks[i], np.array(x[i])))
        x[i] = admm.proximal_step(x[i], g, multipliers[i], anchors[i], eta, rho)
        clocks[i] += 1
        if clocks[i] % tau == 0:
            part = admm.contribution(x[i], multipliers[i])
            rule = rules.MeanOfParts()
            rates = rule.rates_at({"num_workers": P}, Context())
            c = rule.apply({"center": c}, part - parts[i], rates)["center"]
            parts[i] = part
        centers.append(np.array(c))
    expected = reference.admm(
        gradient,
        INITIAL,
        num_workers=P,
        learning_rate=eta,
        elasticity=rho,
        schedule=UNEVEN,
        communication_period=tau,
    )
    assert relative_error(np.stack(centers), expected["center"]) < 1e-12
    assert relative_error(np.stack(x), expected["workers"][-1]) < 1e-12


# Kinds of arrays.

DTYPES = [tf.float64, tf.float32, tf.float16, tf.bfloat16]
RULES = {
    "add": rules.TimeAverage(rules.Add()),
    "mean": rules.TimeAverage(rules.Mean(), average_from=5),
    "elastic": rules.TimeAverage(rules.Elastic()),
    "follow": rules.Follow(),
    "mean_of_parts": rules.MeanOfParts(),
    "heavy_ball": rules.HeavyBall(0.5, True, True),
    "nesterov": rules.TimeAverage(rules.Nesterov(compensates=True), 2),
    "outer_nesterov": rules.OuterNesterov(),
    "delayed_nesterov": rules.DelayedNesterov(),
    "mean_gradient": rules.TimeAverage(rules.MeanGradient()),
    "aligned": rules.TimeAverage(rules.Aligned()),
}


def _cast_to(dtype):
    def cast(value):
        if tf.is_tensor(value):
            return tf.cast(value, dtype)
        return tf.constant(value, dtype)  # no way through float32

    return cast


def every_result(to_array, scalar):
    """{name: arrays} of every function on a few fixed operands."""
    x, m, sent = map(to_array, (INITIAL, INITIAL[::-1].copy(), INITIAL**2))
    results = {}
    names = (
        "learning_rate",
        "momentum",
        "averaging_rate",
        "compensation",
        "beta",
        "moving_rate",
        "delay",
        "activation",
        "weight",
    )
    numbers = (0.05, 0.9, 0.25, 0.1, 0.75, 0.25, 1.0, 0.5, 0.5)
    values = map(scalar, numbers)
    given = {**dict(zip(names, values, strict=True)), "num_workers": scalar(2)}
    for name, rule in RULES.items():
        state = rule.init(x)
        rates = rule.rates_at(given, Context(3.0, scalar(2.0)))
        # A power of a NumPy bfloat16 is a float32; a rate is a scalar.
        rates = {key: scalar(rate) for key, rate in rates.items()}
        for _ in range(2):
            delta = rule.delta(m, state)
            state = rule.apply(state, delta, rates, sent)
        results[name] = [*state.values(), rule.begin(state, rates)]
        if rule.answers_difference:
            results[name].append(rule.settle(x, delta, rates))
    results["admm"] = [
        admm.dual_step(m, x, sent),
        admm.proximal_step(x, m, sent, x, scalar(0.05), scalar(1.5)),
        admm.contribution(x, m),
    ]
    return results


@pytest.mark.parametrize("array_scalars", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_and_tensors_keep_their_dtype(dtype, array_scalars):
    numpy_dtype = dtype.as_numpy_dtype
    expected = every_result(np.array, float)
    tolerance = 32 * float(ml_dtypes.finfo(numpy_dtype).eps)

    def tensor(value):
        return tf.constant(value, dtype)

    kinds = [(tensor, _cast_to(dtype) if array_scalars else float, dtype)]
    # NumPy makes a float32 of a bfloat16 beside a Python float.
    if array_scalars or dtype != tf.bfloat16:
        kinds.append(
            (
                lambda array: np.asarray(array, numpy_dtype),
                numpy_dtype if array_scalars else float,
                numpy_dtype,
            )
        )
    for to_array, scalar, wanted in kinds:
        for name, arrays in every_result(to_array, scalar).items():
            for found, exact in zip(arrays, expected[name], strict=True):
                assert found.dtype == wanted, name
                np.testing.assert_allclose(
                    np.asarray(found).astype(np.float64),
                    exact,
                    tolerance,
                    tolerance,
                    err_msg=name,
                )


# What the rules must satisfy.


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_json(name):
    rule = RULES[name]
    again = rules.from_config(json.loads(json.dumps(rule.config())))
    assert again == rule
    assert type(again) is type(rule)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "No rule of the name None"),
        ({"rule": "nothing"}, "No rule of the name 'nothing'"),
        ({"rule": ["add"]}, "No rule of the name"),
        ({"rule": "add", "power": 1}, "has the fields \\[\\]"),
        ({"rule": "heavy_ball", "adjustment": "x"}, "must be a float"),
        ({"rule": "heavy_ball", "compensates": 1}, "must be a bool"),
        ({"rule": "time_average", "of": 3}, "must be a Rule"),
        ({"rule": "time_average", "of": {"rule": "x"}}, "name 'x'"),
        ({"rule": "time_average", "average_from": -1}, "from 0 to 2"),
        ({"rule": "time_average", "average_from": True}, "from 0 to 2"),
        ({"rule": "time_average", "average_from": 10**400}, "from 0 to 2"),
        ({"rule": "time_average", "average_from": 2.0}, "must be a int"),
    ],
)
def test_what_is_no_rule(config, message):
    with pytest.raises(ValueError, match=message):
        rules.from_config(config)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'add' is in .*increments.py"):
        rules.rule("add")(rules.Mean)
    rules.rule("add")(rules.Add)  # A module that is loaded again.


RATES = {"num_workers": 3, "learning_rate": 0.1, "momentum": 0.5, "beta": 0.9}


@pytest.mark.parametrize("name", RULES)
def test_rates_are_checked(name):
    rule = RULES[name]
    wanted = {"num_workers"} | {
        "elastic": {"beta"},
        "follow": {"beta"},
        "heavy_ball": {"learning_rate", "momentum", "compensation"},
        "nesterov": {"learning_rate", "momentum", "compensation"},
        "outer_nesterov": {"learning_rate", "momentum"},
        "mean_gradient": {"learning_rate", "momentum"},
        "aligned": {"learning_rate", "momentum", "weight"},
        "delayed_nesterov": {
            *("learning_rate", "momentum", "delay", "activation")
        },
    }.get(name, set())
    given = {**RATES, "compensation": 0.1, "delay": 2, "activation": 0.5}
    given["weight"] = 0.5
    rule.check(given)
    for missing in given:
        rest = {k: v for k, v in given.items() if k != missing}
        if missing not in wanted:
            rule.check(rest)
            continue
        for bad in (rest, *({**rest, missing: v} for v in (1e38, -3.0))):
            with pytest.raises(ValueError, match=missing):
                rule.check(bad)


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_keeps_grows_no_further_than_it_says(name):
    """A center server looks at every value only where it may not be finite."""
    rule = RULES[name]
    generator = np.random.default_rng(5)
    bounded = 0
    for _ in range(200):
        center, message, sent = generator.normal(size=(3, 8)) * 10.0 ** (
            generator.integers(-2, 3, size=(3, 1))
        )
        given = {
            "num_workers": int(generator.integers(1, 5)),
            "learning_rate": generator.uniform(0, 5),
            "momentum": generator.uniform(-2, 2),
            "averaging_rate": generator.uniform(0, 1),
            "compensation": 0.1,
            "beta": generator.uniform(0, 2),
            "delay": int(generator.integers(1, 3)),
            "activation": generator.uniform(0, 0.5),
            "weight": generator.uniform(0, 1),
        }
        rates = rule.rates_at(given, Context(2.0, 3.0))
        state = rule.apply(rule.init(center), center[::-1], rates, sent)
        size = max(np.abs(kept).max() for kept in state.values())
        delta = rule.delta(message, state)
        most = rule.reached(size, np.linalg.norm(delta), rates)
        after = rule.apply(state, delta, rates, sent)
        if most is not None:
            bounded += 1
            found = max(np.abs(kept).max() for kept in after.values())
            assert found <= most * (1 + 1e-12)
    at_all = rule.remembers or rule.by_variable
    assert bounded == (0 if at_all else 200)


def test_without_compensation_or_delay_a_gradient_is_as_it_is():
    g = INITIAL**3
    for point, sent, rate in ((2.0, 1.0, 0.0), (1.5, 1.5, 0.7)):
        np.testing.assert_array_equal(
            gradients.compensated_gradient(g, point, sent, rate), g
        )


def test_the_adjustment_is_1_at_the_first_update():
    for power in (0.0, 0.5, 1.0):
        rule = rules.HeavyBall(adjustment=power)
        found = [
            rule.rates_at({"learning_rate": 0.3}, Context(k))["learning_rate"]
            for k in range(4)
        ]
        np.testing.assert_allclose(
            found, [0.3 * (k + 1) ** -power for k in range(4)], rtol=1e-15
        )
