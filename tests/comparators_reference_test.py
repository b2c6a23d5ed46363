"""The comparators' references agree with others, and with steps by hand."""

import numpy as np
import pytest

from tests import reference
from tests.family_reference_test import INITIAL
from tests.family_reference_test import RATE
from tests.family_reference_test import ROUND_ROBIN
from tests.family_reference_test import STEPS
from tests.family_reference_test import P
from tests.family_reference_test import by_hand
from tests.family_reference_test import noisy_gradient
from tests.reference import pushes
from tests.reference.heloco import corrected

OUTER = {"outer_learning_rate": 0.7, "outer_momentum": 0.9}
METHODS = {
    "async_diloco": (
        reference.async_diloco,
        {"communication_period": 4, "momentum_activation": 0.1, **OUTER},
    ),
    "heloco": (
        reference.heloco,
        {
            "communication_period": 4,
            "blocks": [slice(0, 3), slice(3, None)],
            **OUTER,
        },
    ),
    "sync_sgd": (reference.sync_sgd, {"momentum": 0.8}),
    "ringmaster": (reference.ringmaster, {"threshold": 2}),
}


def call(name, gradient=noisy_gradient, **changes):
    method, settings = METHODS[name]
    settings = {
        "num_workers": P,
        "schedule": ROUND_ROBIN,
        **RATE,
        **settings,
        **changes,
    }
    return method(gradient, INITIAL, **settings)


@pytest.mark.parametrize("name", METHODS)
def test_shapes_start_and_where_gradients_are_taken(name):
    before, seen = INITIAL.copy(), []

    def gradient(worker, step, point):
        seen.append((worker, step, point.copy()))
        return noisy_gradient(worker, step, point)

    run = call(name, gradient=gradient)
    rows = len(ROUND_ROBIN) + 1
    assert run["workers"].shape == (rows, P, len(INITIAL))
    assert run["center"].shape == (rows, len(INITIAL))
    np.testing.assert_array_equal(run["center"][0], INITIAL)
    np.testing.assert_array_equal(INITIAL, before)
    assert [(k % P, k // P) for k in range(rows - 1)] == [
        (worker, step) for worker, step, _ in seen
    ]
    # The workers of these begin with their first turn.
    if name not in ("async_diloco", "heloco"):
        for k, (worker, _, point) in enumerate(seen):
            np.testing.assert_array_equal(run["workers"][k, worker], point)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_async_diloco_with_plain_pushes_adds_the_nth_part():
    """Without momentum it is DOWNPOUR, of which the center takes a share."""
    found = call("async_diloco", outer_momentum=0.0, outer_learning_rate=P)
    expected = reference.async_diloco(
        noisy_gradient,
        INITIAL,
        num_workers=P,
        schedule=ROUND_ROBIN,
        communication_period=4,
        outer_learning_rate=1.0,
        outer_momentum=0.0,
        momentum_delay=1,
        **RATE,
    )
    close(found["center"], expected["center"])
    downpour = pushes.downpour(
        noisy_gradient,
        INITIAL,
        num_workers=P,
        schedule=ROUND_ROBIN,
        communication_period=4,
        **RATE,
    )
    close(found["center"], downpour["center"])


def test_async_diloco_of_one_worker_is_diloco():
    found = call("async_diloco", num_workers=1, schedule=[0] * STEPS)
    expected = reference.diloco(
        noisy_gradient,
        INITIAL,
        num_workers=1,
        communication_period=4,
        num_steps=STEPS,
        **RATE,
        **OUTER,
    )
    close(found["center"], expected["center"])


def test_pushes_from_the_same_point_are_a_step_of_diloco():
    """Workers that all have read the first center, and N = p."""
    found = call(
        "async_diloco",
        schedule=[0] * 4 + [1] * 4 + [2] * 4,
        momentum_activation=0.0,
        together=True,
    )
    expected = reference.diloco(
        noisy_gradient,
        INITIAL,
        num_workers=P,
        communication_period=4,
        num_steps=4,
        **RATE,
        **OUTER,
    )
    close(found["center"][-1], expected["center"][-1])


def test_the_velocity_acts_once_in_all():
    """Whatever its share in each push, if it is not changed: with mu = 0."""
    with_share = call("async_diloco", outer_momentum=0.0)
    without = call("async_diloco", outer_momentum=0.0, momentum_activation=0.0)
    close(with_share["center"], without["center"])


def test_ringmaster_that_ignores_nothing_is_plain_async_sgd():
    run = call("ringmaster", threshold=P)
    expected = reference.async_msgd(
        noisy_gradient,
        INITIAL,
        num_workers=P,
        momentum=0.0,
        schedule=ROUND_ROBIN,
        **RATE,
    )
    close(run["center"], expected["center"])
    np.testing.assert_array_equal(run["staleness"][1:], expected["staleness"])
    assert not run["dropped"].any()


def test_ringmaster_with_a_threshold_of_1_is_sequential():
    """Only a gradient at the present point counts."""
    run = call("ringmaster", threshold=1)
    moves = np.flatnonzero(np.any(np.diff(run["center"], axis=0), axis=1))
    assert not run["dropped"][moves + 1].any()
    assert set(run["staleness"][moves + 1]) == {0}
    assert 0 < len(moves) < len(ROUND_ROBIN)


def test_sync_sgd_is_sgd_by_the_mean():
    run = call("sync_sgd", momentum=0.0)
    x = INITIAL
    for t in range(STEPS):
        mean = sum(noisy_gradient(i, t, x) for i in range(P)) / P
        x = x - 0.05 * mean
    close(run["center"][-1], x)
    assert not run["dropped"].any()


# By hand: F(x) = (i + 1) x^2 / 2 on worker i, from 8.


def hand(method, schedule, p=2, **settings):
    run = method(
        by_hand,
        np.array([8.0]),
        num_workers=p,
        learning_rate=0.25,
        schedule=schedule,
        **settings,
    )
    return run["center"].ravel().tolist(), run["workers"][-1].ravel().tolist()


def test_async_diloco_by_hand():
    center, workers = hand(
        reference.async_diloco,
        [0, 1, 0],
        communication_period=1,
        outer_learning_rate=0.5,
        outer_momentum=0.5,
        together=True,
    )
    # g = 2: 8 - 2 / 4; g = 4: m = 3, 7.5 - (3 / 2 + 4 / 2) / 2; g = 1.875.
    assert center == [8, 7.5, 5.75, 5.75 - 1.875 / 4]
    assert workers == [center[-1], 5.75]


def test_heloco_by_hand():
    center, workers = hand(
        reference.heloco,
        [0, 0],
        p=1,
        blocks=[slice(0, 1)],
        communication_period=1,
        outer_learning_rate=0.5,
        outer_momentum=0.5,
    )
    # G = 2, m = 1, given 6.5; G = 1.625, m = 1.3125, and they agree.
    assert center == [8, 6.75, 6.75 - (1.625 + 1.3125 / 2) / 2]
    assert workers == [center[-1] - 1.3125 / 4]


def test_heloco_corrects_what_does_not_agree():
    found = corrected(np.array([3.0, 4.0]), np.array([0.0, -5.0]))
    # c = -0.8, confidence 1 / 4, beta 0.1: 8 % of 4 and of 5.
    np.testing.assert_allclose(found, [3.0, 4.0 - 0.1 * 0.8 * 5], rtol=1e-8)
    found = corrected(np.array([3.0, 4.0]), np.array([4.0, -2.9]))
    assert np.linalg.norm(found) == pytest.approx(5.0)
    assert found[0] > 3.0 and found[1] < 4.0


def test_the_first_of_a_round_by_hand():
    center, workers = hand(reference.sync_sgd, [0, 0, 1, 1, 0], first=1)
    # 8 - 2, 6 - 1.5; worker 1's gradient is of round 0, then of round 2.
    assert center == [8, 6, 4.5, 4.5, 2.25, 2.25]
    assert workers == [2.25, 2.25]


def test_a_round_of_both_by_hand():
    center, workers = hand(reference.sync_sgd, [1, 0, 0], momentum=0.5)
    assert center == [8, 8, 8 - (16 + 8) / 8, 5]
    assert workers == [5, 5]


def test_ringmaster_by_hand():
    center, workers = hand(reference.ringmaster, [0, 0, 1, 1], threshold=2)
    # 8 - 2, 6 - 1.5; worker 1 is 2 updates late, then it is not.
    assert center == [8, 6, 4.5, 4.5, 2.25]
    assert workers == [4.5, 2.25]
