"""Edges that are too slow for their periods."""

import pytest

from tf_elastic.core.congestion import Stretch


def noted(stretch, *messages):
    """The factor after each of some messages, which come three times each."""
    factors = []
    for message in messages:
        for _ in range(3):
            before = stretch.factor
            changed = stretch.note(*message)
            assert changed == (stretch.factor != before)
        factors.append(stretch.factor)
    return factors


def test_a_slow_edge_is_stretched_as_far_as_it_needs():
    # 3 s each: a period of 1 s is too short, of 2 s too, of 4 s not.
    assert noted(Stretch(), *[(3.0, 1.0)] * 6) == [2, 4, 4, 4, 4, 4]


def test_it_is_stretched_within_bounds():
    assert noted(Stretch(), *[(1e3, 1.0)] * 6) == [2, 4, 8, 8, 8, 8]
    assert noted(Stretch(4), *[(1e3, 1.0)] * 3) == [2, 4, 4]
    assert noted(Stretch(1), *[(1e3, 1.0, True)] * 3) == [1, 1, 1]


def test_messages_that_overflow_stretch_it_whatever_they_take():
    assert noted(Stretch(), (0.0, 1.0, True), (0.0, 0.0, True)) == [2, 4]


def test_one_that_is_held_up_does_not():
    stretch = Stretch()
    for slow in (True, True, False) * 10:
        assert not stretch.note(9.0 if slow else 0.1, 1.0)
    assert stretch.factor == 1


def test_it_returns_when_it_is_quick_again():
    stretch = Stretch()
    assert noted(stretch, (9.0, 1.0), (9.0, 1.0)) == [2, 4]
    changes = [stretch.note(0.1, 1.0) for _ in range(20)]
    assert [k for k, changed in enumerate(changes) if changed] == [7, 15]
    assert stretch.factor == 1
    assert stretch.round_trip_s == 0.1


def test_an_edge_in_between_does_not_swing():
    stretch = Stretch()
    assert set(noted(stretch, *[(1.5, 1.0)] * 40)) == {2}


@pytest.mark.parametrize("most", [0, 3, -1, 2.0, True])
def test_a_bound_that_is_none(most):
    with pytest.raises(ValueError, match="most_stretch"):
        Stretch(most)
