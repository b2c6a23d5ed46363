"""What is warned of before training, and what is not."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tf_elastic import core
from tf_elastic import optimizers
from tf_elastic import theory
from tf_elastic.optimizers import registry
from tf_elastic.theory import delay_equations
from tf_elastic.theory.stability import delays


def message_of(function, *args, **kwargs):
    """What is warned, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args, **kwargs)
    assert len(caught) <= 1
    if not caught:
        return None
    assert caught[0].category is theory.StabilityWarning
    return str(caught[0].message)


def late(rule="AsyncMSGD", **changed):
    numbers = {
        "learning_rate": 0.01,
        "momentum": 0.5,
        "num_workers": 4,
        "protocol": "blocking",
    }
    return message_of(theory.warn_if_late, rule, **(numbers | changed))


@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_a_late_gradient_is_warned_of_where_the_closed_form_says_so(protocol):
    wrong = []
    for momentum in (0.0, 0.5, 0.9, 0.99):
        for learning_rate in (0.003, 0.03, 0.3, 3.0):
            for p in (1, 4, 16):
                delay = (2 if protocol == "overlapped" else 1) * p - 1
                bound = delay_equations.largest_stable_eta_h(delay, momentum)
                message = late(
                    momentum=momentum,
                    learning_rate=learning_rate,
                    num_workers=p,
                    protocol=protocol,
                )
                least = delays.LEAST_CURVATURE
                if (message is not None) != (learning_rate * least >= bound):
                    wrong.append((momentum, learning_rate, p, message))
    assert not wrong


def test_the_warning_names_the_bound_and_the_nearest_stable_value():
    message = late(momentum=0.99, learning_rate=0.1, num_workers=8)
    assert "8 workers, whose gradients are 7 updates late" in message
    bound = float(re.search(r"curved by more than ([\d.e-]+),", message)[1])
    exact = delay_equations.largest_stable_eta_h(7, 0.99) / 0.1
    assert bound == pytest.approx(exact, rel=5e-3)
    fix = re.search(r"nearest stable value is (\w+)=([\d.e-]+?)\.$", message)
    name, value = fix[1], float(fix[2])
    assert (
        late(
            **{"momentum": 0.99, "learning_rate": 0.1, "num_workers": 8}
            | {name: value}
        )
        is None
    )


def overlap(**changed):
    numbers = {
        "num_workers": 1,
        "communication_period": 10,
        "moving_rate": 0.9,
        "beta": 0.9,
        "momentum": 0.9,
        "nesterov": True,
    }
    return message_of(
        theory.warn_if_overlap_swings, "EAMSGD", **(numbers | changed)
    )


def test_one_worker_with_the_default_beta_swings_if_overlapped():
    message = overlap()
    assert "protocol='overlapped'" in message
    fix = re.search(
        r"nearest stable value is moving_rate=([\d.]+) \(beta=([\d.]+)\)\.$",
        message,
    )
    alpha = float(fix[1])
    assert 0 < alpha < 0.9 and float(fix[2]) == alpha
    assert overlap(moving_rate=alpha, beta=alpha) is None
    # A run at the bound: learning_rate * curvature, as the message has it.
    bound = float(re.search(r"must stay below ([\d.e-]+) ", message)[1])
    for share, stable in ((0.95, True), (1.05, False)):
        advice = theory.advise(
            rule="EAMSGD",
            protocol="overlapped",
            num_workers=1,
            momentum=0.9,
            beta=0.9,
            learning_rate=share * bound,
            curvature=1.0,
            communication_period=10,
        )
        assert advice.stable == stable


@pytest.mark.parametrize("p", [4, 8, 16])
def test_more_workers_do_not_swing(p):
    for momentum in (0.0, 0.9, 0.99):
        assert (
            overlap(num_workers=p, moving_rate=0.9 / p, momentum=momentum)
            is None
        )


def test_a_harmless_moving_rate_is_harmless():
    """What the search is left out for would not be warned of."""
    limit = delays._HARMLESS
    for momentum in (0.0, 0.9, 0.99):
        for p in (1, 2, 4):
            for period in (1, 10, 50):
                margins = [
                    theory.advise(
                        rule="EAMSGD",
                        protocol=protocol,
                        num_workers=p,
                        communication_period=period,
                        moving_rate=limit,
                        momentum=momentum,
                        learning_rate=0.01,
                        curvature=1.0,
                    ).margin
                    for protocol in ("overlapped", "blocking")
                ]
                assert margins[0] > delays.LEAST_SHARE * margins[1]


def defaults(name):
    """An optimizer with its own defaults."""
    if name == "Elastic":
        return optimizers.Elastic("sgd")
    return getattr(optimizers, name)()


@pytest.mark.parametrize("p", [1, 3, 8])
def test_no_default_is_warned_of(strategy, p):
    import keras

    warned = {}
    with strategy(p, None).scope():
        for method in registry.listed():
            if method.one_worker and p > 1:
                continue
            name = method.name
            optimizer = defaults(name)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                optimizer.build([keras.Variable(np.zeros(2))])
            if caught:
                warned[name] = [str(each.message) for each in caught]
            assert optimizer.built
    assert warned == {}


def test_an_optimizer_warns(strategy):
    import keras

    with strategy(8, None).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = optimizers.AsyncMSGD(0.1, momentum=0.99)
        model.compile(optimizer, loss="mse")
        with pytest.warns(theory.StabilityWarning, match="7 updates late"):
            optimizer.build(model.trainable_variables)


def test_what_core_calls_default_is_what_swings():
    """The test above would be void if the default beta changed."""
    assert core.DEFAULT_BETA == pytest.approx(0.9)
    assert np.isclose(core.elastic_rates(1).moving_rate, 0.9)


@pytest.mark.parametrize("order", theory.ORDERS)
def test_a_negative_moving_rate_is_warned_of_and_used(strategy, order):
    with (s := strategy(2, order)).scope():
        variable = tf.Variable([1.0, 2.0])
        optimizer = optimizers.EASGD(
            0.0,
            moving_rate=-0.5,
            beta=0.5,
            symmetric=False,
            communication_period=1,
        )
        with pytest.warns(theory.StabilityWarning, match="pushes workers away"):
            optimizer.build([variable])
    variable.assign_worker_values([[3.0, 2.0], [1.0, 2.0]])
    s.run(lambda: optimizer.apply([tf.zeros(2)], [variable]))
    center, workers = variable.numpy()[0], variable.worker_values()[:, 0]
    found = [center, *workers]
    np.testing.assert_allclose(
        found,
        {
            "jacobi": [1.5, 4.0, 1.0],
            "gauss_seidel": [1.5, 3.75, 0.75],
            "round_robin": [1.375, 4.0, 0.75],
        }[order],
        rtol=1e-6,
    )
