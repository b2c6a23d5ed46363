"""The delays of gradients: what is drawn, what is given, what is measured."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from tf_elastic.core import counter_random
from tf_elastic.core import delays

MANY = np.arange(200_000)

# A delay, and the distribution that it is said to have.
DRAWN = {
    "uniform": (delays.UniformDelay(2, 9), scipy.stats.randint(2, 10)),
    "geometric": (delays.GeometricDelay(4.0), scipy.stats.geom(0.2, loc=-1)),
    "poisson": (delays.PoissonDelay(6.5), scipy.stats.poisson(6.5)),
    "rare": (delays.PoissonDelay(0.01), scipy.stats.poisson(0.01)),
    "late": (delays.PoissonDelay(300), scipy.stats.poisson(300)),
}
drawn = pytest.mark.parametrize(("delay", "said"), DRAWN.values(), ids=DRAWN)

ENTRIES = [(4, 1, 0, 1.5), (2, 0, 3, 9.0), (3, 1, 1, 4.0), (5, 0, 2, 0.25)]
ALL = {
    "constant": delays.ConstantDelay(4),
    "sequence": delays.DelaySequence([0, 3, 1]),
    "uniform": delays.UniformDelay(1, 6, seed=3),
    "geometric": delays.GeometricDelay(3.0, seed=2**62),
    "cut_geometric": delays.GeometricDelay(3, max_delay=5),
    "poisson": delays.PoissonDelay(2),
    "trace": delays.DelayTrace(ENTRIES, by_worker=True),
}
each = pytest.mark.parametrize("delay", ALL.values(), ids=ALL)


def split_mix(seed, count):
    """SplitMix64 as it is published: a state that steps, in Python's ints."""
    mask, state, words = 2**64 - 1, seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return words


def test_words_are_those_of_split_mix():
    known = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    counter = np.arange(5, dtype=np.uint64)
    for seed in (1234567, 0, 2**64 - 1):
        words = counter_random.random_words(np.uint64(seed), counter)
        assert words.tolist() == split_mix(seed, 5)
    assert split_mix(1234567, 5) == known


@drawn
def test_draws_are_the_quantiles_of_the_words(delay, said):
    """The distribution's own inverse, applied to the same words."""
    start = int(counter_random.stream_start(delay.seed, worker := 3))
    uniform = (np.array(split_mix(start, 5000)) + 0.5) / 2.0**64
    expected = np.minimum(said.ppf(uniform), delay.max_delay)
    np.testing.assert_array_equal(delay.draw(np.arange(5000), worker), expected)


@drawn
def test_frequencies_and_moments(delay, said):
    draws = delay.draw(MANY)
    assert draws.dtype == np.int64
    assert 0 <= draws.min() and draws.max() <= delay.max_delay
    error = 5 * said.std() / np.sqrt(len(MANY)) + 1e-5
    assert draws.mean() == pytest.approx(said.mean(), abs=error)
    assert draws.std() == pytest.approx(said.std(), rel=0.03, abs=1e-5)
    values = np.arange(delay.max_delay + 1)
    expected = said.pmf(values) * len(MANY)
    counts = np.bincount(draws, minlength=len(values))
    often = expected > 20
    deviation = (counts - expected)[often] / np.sqrt(expected[often])
    assert np.abs(deviation).max() < 5


@drawn
def test_neighbours_and_workers_are_independent(delay, said):
    del said
    for a, b in (
        (delay.draw(MANY[1:]), delay.draw(MANY[:-1])),
        (delay.draw(MANY), delay.draw(MANY, worker=1)),
        (delay.draw(MANY), dataclasses.replace(delay, seed=1).draw(MANY)),
    ):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(MANY))


@pytest.mark.parametrize(
    ("delay", "value"),
    [
        (delays.UniformDelay(3, 3), 3),
        (delays.GeometricDelay(0.0), 0),
        (delays.PoissonDelay(0.0), 0),
    ],
)
def test_where_one_value_is_certain_it_is_drawn(delay, value):
    assert delay.max_delay == value
    assert set(delay.draw(MANY).tolist()) == {value}
    if delay.unbounded:
        assert set(delay.draw_uncut(MANY).tolist()) == {value}


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        (delays.GeometricDelay(mean), scipy.stats.geom(1 / (1 + mean), loc=-1))
        for mean in (0.3, 4.0, 100.0)
    ]
    + [
        (delays.PoissonDelay(mean), scipy.stats.poisson(mean))
        for mean in (0.3, 4.0, 100.0, 700.0)
    ],
)
def test_default_cut_is_where_the_tail_falls_below_a_millionth(delay, said):
    assert said.sf(delay.max_delay) < 1e-6
    if delay.max_delay:
        assert said.sf(delay.max_delay - 1) >= 1e-6


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        (delays.GeometricDelay(4.0, max_delay=6), scipy.stats.geom(0.2, -1)),
        (delays.PoissonDelay(4.0, max_delay=6), scipy.stats.poisson(4.0)),
        (delays.PoissonDelay(4.0, max_delay=0), scipy.stats.poisson(4.0)),
    ],
)
def test_a_cut_delay_is_the_largest_one(delay, said):
    uncut = delay.draw_uncut(MANY)
    np.testing.assert_array_equal(
        delay.draw(MANY), np.minimum(uncut, delay.max_delay)
    )
    tail = said.sf(delay.max_delay)
    error = 5 * np.sqrt(tail * (1 - tail) / len(MANY))
    assert (uncut > delay.max_delay).mean() == pytest.approx(tail, abs=error)


@each
def test_a_draw_depends_on_seed_worker_and_step_alone(delay):
    whole = delay.draw(np.arange(100), worker=2)
    again = delays.delay_from_config(delay.get_config())
    backwards = [int(again.draw(k, worker=2)) for k in range(99, -1, -1)]
    assert backwards[::-1] == whole.tolist()
    assert delay.draw(np.arange(60, 80), 2).tolist() == whole[60:80].tolist()
    assert delay.draw(np.arange(6).reshape(2, 3), 2).shape == (2, 3)


@each
def test_config_round_trip_through_json(delay):
    config = json.loads(json.dumps(delay.get_config()))
    again = delays.delay_from_config(config)
    assert again == delay
    assert hash(again) == hash(delay)
    assert again.get_config() == config


@each
def test_a_delay_does_not_change(delay):
    with pytest.raises(dataclasses.FrozenInstanceError):
        delay.seed = 5


def test_given_delays_begin_again():
    delay = delays.DelaySequence(np.array([2, 0, 5]))
    assert delay.draw(np.arange(7)).tolist() == [2, 0, 5, 2, 0, 5, 2]
    assert delay.max_delay == 5
    assert delays.as_delay(3).draw([0, 9]).tolist() == [3, 3]
    assert delays.as_delay(delay) is delay


def test_geometric_by_its_probability():
    delay = delays.GeometricDelay.with_probability(0.2, seed=4)
    assert delay == delays.GeometricDelay(mean=4.0, seed=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: delays.ConstantDelay(-1), "`delay` .* Received: delay=-1"),
        (lambda: delays.ConstantDelay(1.5), "`delay` .* Received: delay=1.5"),
        (lambda: delays.ConstantDelay(True), "Received: delay=True"),
        (lambda: delays.UniformDelay(3, 2), "Received: low=3, high=2"),
        (lambda: delays.UniformDelay(-1, 2), "`low` .* Received: low=-1"),
        (lambda: delays.UniformDelay(0, 2, -1), "`seed` .* seed=-1"),
        (lambda: delays.UniformDelay(0, 2, 2**63), "`seed` must be"),
        (lambda: delays.GeometricDelay(-1.0), "`mean` .* mean=-1.0"),
        (lambda: delays.GeometricDelay(float("nan")), "`mean` .* mean=nan"),
        (lambda: delays.GeometricDelay("4"), "`mean` .* mean='4'"),
        (lambda: delays.GeometricDelay(1.0, 0, -2), "max_delay=-2"),
        (lambda: delays.GeometricDelay.with_probability(0), "probability=0"),
        (lambda: delays.GeometricDelay.with_probability(1.5), "y=1.5"),
        (lambda: delays.PoissonDelay(701), "at most 700"),
        (lambda: delays.PoissonDelay(float("inf")), "`mean` .* mean=inf"),
        (lambda: delays.DelaySequence([]), "at least one delay"),
        (lambda: delays.DelaySequence([1, -1]), "Received: values=-1"),
        (lambda: delays.DelayTrace([]), "at least one push"),
        (lambda: delays.DelayTrace([(1, 0, 2)]), r"with \(1, 0, 2\)"),
        (lambda: delays.DelayTrace([(1, 0, -2, 0.0)]), "`versions of entr"),
        (
            lambda: delays.DelayTrace([(1, 0, 2, 0.0), (1, 1, 2, 0.0)]),
            "two pushes of the same number",
        ),
        (lambda: delays.as_delay(-3), "`delay` .* Received: delay=-3"),
        (lambda: delays.delay_from_config({"kind": "late"}), "kind='late'"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("delay", [2.0, "constant", None, [1, 2], True])
def test_what_is_no_delay_is_refused(delay):
    with pytest.raises(TypeError, match="`delay` must be .* Received: delay="):
        delays.as_delay(delay)


def test_a_trace_is_in_the_order_of_the_center():
    trace = delays.DelayTrace([*ENTRIES, ENTRIES[0]])
    assert [entry.number for entry in trace.entries] == [2, 3, 4, 5]
    assert trace.max_delay == 3
    assert trace.draw(np.arange(5), worker=7).tolist() == [3, 1, 0, 2, 3]


def test_a_trace_by_worker():
    trace = delays.DelayTrace(ENTRIES, by_worker=True)
    assert trace.draw(np.arange(3), worker=0).tolist() == [3, 2, 3]
    assert trace.draw(np.arange(3), worker=1).tolist() == [1, 0, 1]
    assert trace.draw(np.arange(3), worker=2).tolist() == [3, 2, 3]


@pytest.mark.parametrize("by_worker", [False, True])
def test_a_trace_survives_its_file(tmp_path, by_worker):
    trace = delays.DelayTrace(ENTRIES, by_worker)
    trace.save(tmp_path / "trace.json")
    again = delays.DelayTrace.load(tmp_path / "trace.json")
    assert again == trace
    content = json.loads((tmp_path / "trace.json").read_text())
    assert content["entries"][0] == [2, 0, 3, 9.0]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "tf_elastic delay trace"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "tf_elastic delay trace", "version": 1, "entries": 3}',
        b'{"format": "tf_elastic delay trace", "version": 1, "entries": [3]}',
    ],
    ids=lambda text: str(text[:80]),
)
def test_another_file_is_no_trace(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="`path` must be a .*other.json"):
        delays.DelayTrace.load(path)
