"""The rules of `core` against the references, and what they must satisfy."""

import itertools
import math

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import reference
from tf_elastic import core

N, STEPS = 5, 200
LEARNING_RATE, MOMENTUM, BETA = 0.05, 0.9, 0.9
INITIAL = np.linspace(-1.0, 2.0, N)
EXCHANGES = {
    "jacobi": core.jacobi_exchange,
    "round_robin": core.round_robin_exchange,
    "gauss_seidel": core.gauss_seidel_exchange,
}

_GENERATOR = np.random.default_rng(11)
_NOISE = _GENERATOR.normal(size=(8, STEPS, N))
_FACTOR = _GENERATOR.normal(size=(N, N))
_HESSIAN = _FACTOR @ _FACTOR.T / N + 0.1 * np.eye(N)


def gradient(worker, step, point):
    """That of a quadratic in `point`, with noise."""
    return _HESSIAN @ point - _NOISE[worker, step]


def relative_error(found, expected):
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


# How each method is put together from the rules.


def sgd(x, v, gradient, eta):
    return core.sgd_step(x, gradient(x), eta), v


def nesterov(x, v, gradient, eta):
    y = core.lookahead_point(x, v, MOMENTUM)
    return core.momentum_step(x, v, gradient(y), eta, MOMENTUM)


def heavy_ball(x, v, gradient, eta):
    return core.momentum_step(x, v, gradient(x), eta, MOMENTUM)


def stored_nesterov(x, v, gradient, eta):
    """The same as `nesterov`, by way of the look-ahead point."""
    y = core.lookahead_point(x, v, MOMENTUM)
    y, v = core.lookahead_momentum_step(y, v, gradient(y), eta, MOMENTUM)
    return core.plain_point(y, v, MOMENTUM), v


def run(step, exchange, p, tau, alpha, beta, eta, to_array=np.array):
    """Workers and center, in rows as the references have them.

    Jacobi and round robin take the gradient where the workers were before the
    exchange. Gauss-Seidel's push and pull are one exchange between two steps;
    the reference shows the center after the push, so row t + 1 of the workers
    is what the step led to.
    """
    x = [to_array(INITIAL) for _ in range(p)]
    v = [to_array(np.zeros(N)) for _ in range(p)]
    c = to_array(INITIAL)
    workers, center = [np.stack(x)], [np.array(c)]
    for t in range(STEPS):
        rate = eta(t) if callable(eta) else eta
        pulled = x
        if t % tau == 0 and exchange != "gauss_seidel":
            pulled, c = EXCHANGES[exchange](x, c, alpha, beta)
        stepped = [
            step(
                x[i],
                v[i],
                lambda at, i=i, t=t: to_array(gradient(i, t, np.array(at))),
                rate,
            )
            for i in range(p)
        ]
        v = [new_v for _, new_v in stepped]
        x = [new_x + (pulled[i] - x[i]) for i, (new_x, _) in enumerate(stepped)]
        workers.append(np.stack(x))
        if exchange == "gauss_seidel" and (t + 1) % tau == 0:
            x, c = EXCHANGES[exchange](x, c, alpha, beta)
        center.append(np.array(c))
    return np.stack(workers), np.stack(center)


METHODS = {
    "easgd_jacobi": (sgd, "jacobi", reference.easgd_synchronous),
    "eamsgd_jacobi": (nesterov, "jacobi", reference.eamsgd_synchronous),
    "eamsgd_jacobi_stored": (
        stored_nesterov,
        "jacobi",
        reference.eamsgd_synchronous,
    ),
    "heavy_ball_jacobi": (
        heavy_ball,
        "jacobi",
        reference.heavy_ball_synchronous,
    ),
    "easgd_round_robin": (sgd, "round_robin", reference.easgd_round_robin),
    "eamsgd_round_robin": (
        nesterov,
        "round_robin",
        reference.eamsgd_round_robin,
    ),
    "easgd_gauss_seidel": (sgd, "gauss_seidel", reference.easgd_gauss_seidel),
    "eamsgd_gauss_seidel": (
        nesterov,
        "gauss_seidel",
        reference.eamsgd_gauss_seidel,
    ),
    "heavy_ball_gauss_seidel": (
        heavy_ball,
        "gauss_seidel",
        reference.heavy_ball_gauss_seidel,
    ),
}


def compare(method, p, tau, alpha, beta, eta=LEARNING_RATE, to_array=np.array):
    step, exchange, reference_method = METHODS[method]
    settings = {"momentum": MOMENTUM} if step is not sgd else {}
    expected = reference_method(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=tau,
        learning_rate=eta,
        moving_rate=alpha,
        beta=beta,
        num_steps=STEPS,
        **settings,
    )
    workers, center = run(step, exchange, p, tau, alpha, beta, eta, to_array)
    assert relative_error(workers, expected["workers"]) < 1e-12
    assert relative_error(center, expected["center"]) < 1e-12


@pytest.mark.parametrize("tau", [1, 4, 10])
@pytest.mark.parametrize("p", [1, 3, 8])
@pytest.mark.parametrize("method", METHODS)
def test_two_hundred_steps_equal_the_pseudo_code(method, p, tau):
    compare(method, p, tau, BETA / p, BETA)


@pytest.mark.parametrize("method", METHODS)
def test_alpha_and_beta_are_independent(method):
    compare(method, 3, 4, 0.15, 1.2)


@pytest.mark.parametrize("method", METHODS)
def test_tensors_equal_the_pseudo_code_too(method):
    compare(
        method, 3, 4, 0.3, 0.9, to_array=lambda a: tf.constant(a, tf.float64)
    )


def test_decay_runs_on_the_workers_clock():
    expected = reference.square_root_decay(0.1, 0.02)
    found = [core.inverse_sqrt_decay(0.1, t, 0.02) for t in range(STEPS)]
    np.testing.assert_allclose(
        found, [expected(t) for t in range(STEPS)], rtol=1e-14
    )
    compare(
        "eamsgd_jacobi",
        3,
        4,
        0.3,
        0.9,
        eta=lambda t: core.inverse_sqrt_decay(0.1, t, 0.02),
    )


@pytest.mark.parametrize("p", [1, 3, 8])
def test_downpour_is_gauss_seidel_with_alpha_1_and_beta_p(p):
    expected = reference.downpour_synchronous(
        gradient,
        INITIAL,
        num_workers=p,
        communication_period=4,
        learning_rate=0.01,
        num_steps=STEPS,
    )
    workers, center = run(sgd, "gauss_seidel", p, 4, 1.0, float(p), 0.01)
    assert relative_error(workers, expected["workers"]) < 1e-12
    assert relative_error(center, expected["center"]) < 1e-12


def test_round_robin_is_equation_3_55():
    """p activations of the global clock, one for each worker in turn."""
    p = 3
    expected = reference.round_robin_3_55(
        gradient,
        INITIAL,
        num_workers=p,
        learning_rate=LEARNING_RATE,
        moving_rate=0.3,
        num_steps=STEPS * p,
    )
    workers, center = run(sgd, "round_robin", p, 1, 0.3, 0.9, LEARNING_RATE)
    assert relative_error(workers, expected["workers"][::p]) < 1e-12
    assert relative_error(center, expected["center"][::p]) < 1e-12


@pytest.mark.parametrize(
    ("expected", "rate"),
    [
        (reference.averaged_sgd, None),
        (reference.moving_average_sgd, 0.01),
    ],
)
@pytest.mark.parametrize("average_from", [0, 1, 7])
def test_averages_equal_the_pseudo_code(expected, rate, average_from):
    settings = {} if rate is None else {"averaging_rate": rate}
    expected = expected(
        gradient,
        INITIAL,
        learning_rate=0.05,
        num_steps=STEPS,
        average_from=average_from,
        **settings,
    )
    x, z = INITIAL, INITIAL
    averages = [z]
    for t in range(STEPS):
        a = core.averaging_rate(t, rate, average_from)
        z = core.time_average(z, x, a)
        x = core.sgd_step(x, gradient(0, t, x), 0.05)
        averages.append(z)
    assert relative_error(np.stack(averages), expected["center"]) < 1e-12
    assert relative_error(x, expected["workers"][-1, 0]) < 1e-12


# Kinds of arrays.

DTYPES = [tf.float64, tf.float32, tf.float16, tf.bfloat16]
FEW = [INITIAL, INITIAL[::-1], INITIAL**2]


def every_rule(to_array, scalar):
    """{rule: the arrays it returns} on a few fixed operands."""
    x, v, g = map(to_array, FEW)
    eta, delta, alpha, beta = map(scalar, (0.05, 0.9, 0.3, 0.9))
    results = {
        "sgd_step": [core.sgd_step(x, g, eta)],
        "momentum_step": core.momentum_step(x, v, g, eta, delta),
        "lookahead_momentum_step": core.lookahead_momentum_step(
            x, v, g, eta, delta
        ),
        "lookahead_point": [core.lookahead_point(x, v, delta)],
        "plain_point": [core.plain_point(x, v, delta)],
        "time_average": [core.time_average(x, v, alpha)],
        "elastic_difference": [core.elastic_difference(x, v)],
        "pull": [core.pull(x, v, alpha)],
        "push": [core.push(x, v, beta, 3)],
    }
    for name, exchange in EXCHANGES.items():
        workers, center = exchange([x, v, g], x + v, alpha, beta)
        results[name] = [*workers, center]
    return results


@pytest.mark.parametrize("tensor_scalars", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_keep_their_dtype(dtype, tensor_scalars):
    def tensor(value):
        return tf.constant(value, dtype)

    found = every_rule(tensor, tensor if tensor_scalars else float)
    tolerance = 16 * float(ml_dtypes.finfo(dtype.as_numpy_dtype).eps)
    for rule, expected in every_rule(np.array, float).items():
        for f, e in zip(found[rule], expected, strict=True):
            assert f.dtype == dtype, rule
            np.testing.assert_allclose(
                tf.cast(f, tf.float64), e, tolerance, tolerance, err_msg=rule
            )


@pytest.mark.parametrize("array_scalars", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_keep_their_dtype(dtype, array_scalars):
    numpy_dtype = dtype.as_numpy_dtype
    if not array_scalars and (np.ones(1, numpy_dtype) * 0.5).dtype != dtype:
        # ml_dtypes below 0.7: to NumPy's promotion a Python float is a
        # float32 beside a dtype that is not its own.
        assert dtype == tf.bfloat16
        return
    found = every_rule(
        lambda array: array.astype(numpy_dtype),
        numpy_dtype if array_scalars else float,
    )
    for rule, arrays in found.items():
        for array in arrays:
            assert isinstance(array, np.ndarray), rule
            assert array.dtype == numpy_dtype, rule


def test_rules_work_in_graphs_and_under_xla():
    @tf.function(jit_compile=True)
    def compiled(x):
        rules = every_rule(lambda array: x + (array - INITIAL), float)
        return {name: list(arrays) for name, arrays in rules.items()}

    found = compiled(tf.constant(INITIAL))
    for rule, expected in every_rule(np.array, float).items():
        np.testing.assert_allclose(found[rule], expected, 1e-13, 1e-13)


def test_operands_are_left_alone():
    operands = [array.copy() for array in FEW]
    for exchange in EXCHANGES.values():
        exchange(operands, operands[0], 0.3, 0.9)
    core.momentum_step(*operands, 0.1, 0.9)
    np.testing.assert_array_equal(operands, FEW)


# Properties.

NUMBERS = st.floats(-100, 100, width=32)
RATES = st.floats(0, 2, width=32)


@st.composite
def exchanges(draw):
    """(workers, center) of any shape."""
    p = draw(st.integers(1, 6))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    points = draw(hnp.arrays(np.float64, (p + 1, *shape), elements=NUMBERS))
    return list(points[:-1]), points[-1]


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("order", ["jacobi", "round_robin"])
@given(state=exchanges(), alpha=RATES)
def test_an_exchange_conserves_workers_plus_center(order, state, alpha):
    workers, center = state
    moved = EXCHANGES[order](workers, center, alpha, len(workers) * alpha)
    assert_close(sum(moved.workers) + moved.center, sum(workers) + center)


@given(state=exchanges(), alpha=RATES, beta=RATES)
def test_free_rates_conserve_a_weighted_sum(state, alpha, beta):
    """Both forms that pull and push by one difference: beta/p and alpha."""
    workers, center = state
    share = beta / len(workers)
    before = share * sum(workers) + alpha * center
    for order in ("jacobi", "round_robin"):
        moved = EXCHANGES[order](workers, center, alpha, beta)
        after = share * sum(moved.workers) + alpha * moved.center
        assert_close(after, before)


@given(state=exchanges(), alpha=RATES)
def test_gauss_seidel_conserves_another_sum(state, alpha):
    """Its pull follows a smaller difference than its push.

    With beta = p alpha, sum(workers) + center changes by p alpha times the
    center's step, and sum(workers) + (1 - beta) center is conserved.
    """
    workers, center = state
    p = len(workers)
    beta = p * alpha
    moved = core.gauss_seidel_exchange(workers, center, alpha, beta)
    assert_close(
        sum(moved.workers) + (1 - beta) * moved.center,
        sum(workers) + (1 - beta) * center,
    )
    assert_close(
        sum(moved.workers) + moved.center,
        sum(workers) + center + beta * (moved.center - center),
    )


@pytest.mark.parametrize("order", EXCHANGES)
@given(state=exchanges(), beta=RATES)
def test_alpha_0_leaves_the_workers(order, state, beta):
    workers, center = state
    moved = EXCHANGES[order](workers, center, 0.0, beta)
    np.testing.assert_array_equal(moved.workers, workers)
    if order != "round_robin":
        mean = sum(workers) / len(workers)
        assert_close(moved.center, (1 - beta) * center + beta * mean)


@pytest.mark.parametrize("order", EXCHANGES)
@given(state=exchanges(), alpha=RATES)
def test_beta_0_leaves_the_center(order, state, alpha):
    workers, center = state
    moved = EXCHANGES[order](workers, center, alpha, 0.0)
    np.testing.assert_array_equal(moved.center, center)
    for before, after in zip(workers, moved.workers, strict=True):
        assert_close(after, (1 - alpha) * before + alpha * center)


@pytest.mark.parametrize("order", EXCHANGES)
@given(state=exchanges(), alpha=RATES, beta=RATES)
def test_a_consensus_stays(order, state, alpha, beta):
    workers, center = state
    moved = EXCHANGES[order]([center] * len(workers), center, alpha, beta)
    for point in (*moved.workers, moved.center):
        np.testing.assert_array_equal(point, center)


@given(state=exchanges(), alpha=RATES)
def test_one_worker_makes_jacobi_and_round_robin_one(state, alpha):
    workers, center = state
    both = [
        EXCHANGES[order](workers[:1], center, alpha, 0.7)
        for order in ("jacobi", "round_robin")
    ]
    np.testing.assert_array_equal(both[0].workers, both[1].workers)
    np.testing.assert_array_equal(both[0].center, both[1].center)


@given(
    pair=hnp.arrays(np.float64, (2, 4), elements=NUMBERS),
    momentum=st.floats(0, 1, width=32),
)
def test_plain_point_inverts_lookahead_point(pair, momentum):
    x, v = pair
    y = core.lookahead_point(x, v, momentum)
    assert_close(core.plain_point(y, v, momentum), x)
    assert_close(
        core.lookahead_point(core.plain_point(x, v, momentum), v, momentum), x
    )


@given(values=hnp.arrays(np.float64, (12, 3), elements=NUMBERS))
def test_polyak_average_is_the_mean_so_far(values):
    average = np.full(3, np.pi)  # forgotten in the first step
    for t, value in enumerate(values):
        average = core.time_average(average, value, core.polyak_rate(t))
        assert_close(average, values[: t + 1].mean(axis=0))


@given(
    values=hnp.arrays(np.float64, (12, 3), elements=NUMBERS),
    rate=st.floats(0, 1, width=32),
)
def test_constant_rate_average_is_a_geometric_sum(values, rate):
    average = values[0]
    for value in values[1:]:
        average = core.time_average(average, value, rate)
    weights = rate * (1 - rate) ** np.arange(len(values) - 1)[::-1]
    start = (1 - rate) ** (len(values) - 1)
    assert_close(average, start * values[0] + weights @ values[1:])


# Steps worked out by hand.


def test_one_step_of_each_rule_by_hand():
    assert core.sgd_step(2.0, 4.0, 0.25) == 1.0
    assert core.momentum_step(2.0, -1.0, 4.0, 0.25, 0.5) == (0.5, -1.5)
    assert core.lookahead_point(2.0, -1.0, 0.5) == 1.5
    # y = 1.5; v' = -1.5; y' = x' + delta v' = 0.5 - 0.75.
    assert core.lookahead_momentum_step(1.5, -1.0, 4.0, 0.25, 0.5) == (
        -0.25,
        -1.5,
    )
    assert core.time_average(2.0, 4.0, 0.25) == 2.5
    assert core.inverse_sqrt_decay(1.0, 3, 1.0) == 0.5
    assert core.elastic_difference(5.0, 1.0) == 4.0
    assert core.pull(5.0, 4.0, 0.25) == 4.0
    assert core.push(1.0, 8.0, 0.5, 4) == 2.0


def test_one_exchange_of_each_form_by_hand():
    state = ([5.0, 1.0], 1.0, 0.25, 0.5)
    assert core.jacobi_exchange(*state) == ([4.0, 1.0], 2.0)
    assert core.round_robin_exchange(*state) == ([4.0, 1.25], 1.75)
    assert core.gauss_seidel_exchange(*state) == ([4.25, 1.25], 2.0)


# Rates.


@pytest.mark.parametrize("p", [1, 3, 8])
def test_rates_fill_each_other_in(p):
    assert core.elastic_rates(p) == (core.DEFAULT_BETA / p, 0.9)
    assert core.elastic_rates(p, beta=0.5) == (0.5 / p, 0.5)
    assert core.elastic_rates(p, moving_rate=0.1) == (0.1, p * 0.1)
    assert core.elastic_rates(p, 0.5 / p, 0.5) == (0.5 / p, 0.5)
    assert core.elastic_rates(p, 0.0, 0.0) == (0.0, 0.0)
    assert core.elastic_rates(p, 0.3, 7.0, symmetric=False) == (0.3, 7.0)


def test_contradicting_rates_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="contradict each other") as error:
        core.elastic_rates(3, moving_rate=0.5, beta=0.9)
    message = str(error.value)
    assert "Received: moving_rate=0.5, beta=0.9" in message
    assert f"moving_rate={0.9 / 3}" in message
    assert "symmetric=False" in message


@pytest.mark.parametrize(
    "given_rates", [{}, {"moving_rate": 0.1}, {"beta": 0.9}]
)
def test_free_rates_must_both_be_given(given_rates):
    with pytest.raises(ValueError, match="both must be given.*Received: mov"):
        core.elastic_rates(3, symmetric=False, **given_rates)


@pytest.mark.parametrize("name", ["moving_rate", "beta"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_bad_rates_are_refused(name, value):
    message = f"`{name}` must be a finite.*Received: {name}={value}"
    for symmetric in (True, False):
        if not symmetric and (name, value) == ("moving_rate", -0.1):
            continue  # Where it is free it may be negative.
        with pytest.raises(ValueError, match=message):
            core.elastic_rates(3, **{name: value}, symmetric=symmetric)
    with pytest.raises(ValueError, match=message):
        core.check_rate(name, value)


def test_check_rate_passes_what_is_allowed():
    for value in (None, 0, 0.0, 1, 3.5):
        core.check_rate("beta", value)


def test_public_names_are_there():
    names = core.__all__
    assert len(names) == len(set(names))
    assert not [name for name in names if not hasattr(core, name)]


def test_rules_are_functions_of_their_arguments():
    """Called twice, in any order, they return the same."""
    calls = [
        (exchange, (FEW, FEW[0], 0.3, 0.9)) for exchange in EXCHANGES.values()
    ]
    first = [rule(*arguments) for rule, arguments in calls]
    for order in itertools.permutations(range(len(calls))):
        for k in order:
            rule, arguments = calls[k]
            again = rule(*arguments)
            np.testing.assert_array_equal(again.workers, first[k].workers)
            np.testing.assert_array_equal(again.center, first[k].center)


def test_a_negative_moving_rate_is_for_free_rates_only():
    """Sections 5.1.3 and 5.2.3 find one optimal in places."""
    rates = core.elastic_rates(2, -0.25, 0.5, symmetric=False)
    assert rates == (-0.25, 0.5)
    moved = core.jacobi_exchange([3.0, 2.0], 1.0, *rates)
    assert moved == ([3.5, 2.25], 1.75)
    for wrong in (
        {"moving_rate": -0.25},
        {"moving_rate": -0.25, "beta": -0.5},
        {"moving_rate": -np.inf, "beta": 0.5, "symmetric": False},
        {"moving_rate": 0.25, "beta": -0.5, "symmetric": False},
    ):
        with pytest.raises(ValueError, match="must be"):
            core.elastic_rates(2, **wrong)
