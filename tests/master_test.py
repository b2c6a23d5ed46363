"""Centers of variables of 16 bits: a master in float32, nothing small lost."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support as support
from tests.conformance_cluster_support import Cluster
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.cluster import layout
from tf_elastic.cluster.center import snapshot_keeper
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.core import rules

BFLOAT16 = ml_dtypes.bfloat16
DTYPES = {"bfloat16": BFLOAT16, "float16": np.float16}
DEVICES = ["CPU:0", "CPU:1"]
ULP = 2.0**-7  # of a bfloat16 from 1 to 2


# What is lost without: every rule adds up half a unit in the last place, or
# less. (Ties go to the even neighbour: here, back.)

STEPS = 200
SMALL = {
    # Points: a worker that stays 1 away from where the center begins.
    "elastic": (rules.Elastic(), 2.0, {"beta": ULP / 2, "num_workers": 1}),
    "mean": (rules.Mean(), 1 + ULP, {"num_workers": 2}),
    # Increments and gradients.
    "add": (rules.Add(), ULP / 2, {"num_workers": 1}),
    "gradient": (
        rules.HeavyBall(),
        -1.0,
        {"learning_rate": ULP / 8, "momentum": 0.5, "num_workers": 1},
    ),
    "average": (
        rules.TimeAverage(),
        0.0,
        {"averaging_rate": ULP / 2, "num_workers": 1},
    ),
}


def moved(rule, message, rates, dtype, start=1.0, steps=STEPS):
    """What is shown of a center, all of whose arithmetic is of a dtype."""
    parent = rule.init(np.full(1, start, dtype))
    if isinstance(rule, rules.TimeAverage):
        parent["center"] = np.full(1, 2 * start, dtype)
    now = rule.rates_at(rates, rules.Context())
    now = {k: np.asarray(v, dtype)[()] for k, v in now.items()}
    for _ in range(steps):
        m = np.full(1, message, dtype)
        parent = rule.apply(parent, rule.delta(m, parent), now)
        parent = {k: np.asarray(v).astype(dtype) for k, v in parent.items()}
    return float(parent[rule.shown][0])


@pytest.mark.parametrize("name", SMALL)
def test_what_a_center_of_16_bits_loses_its_master_keeps(name):
    rule, message, rates = SMALL[name]
    exact = moved(rule, message, rates, np.float64)
    assert exact > 1 + ULP / 3
    if name != "mean":
        assert exact > 1.25
    lost = moved(rule, message, rates, BFLOAT16)
    assert lost == 1.0  # It has never moved.

    kept = rules.for_dtype(rule, "bfloat16")
    parent = kept.init(np.ones(1, BFLOAT16))
    if name == "average":
        parent["center"] = 2 * parent["center"]
    now = kept.rates_at(rates, rules.Context())
    for _ in range(STEPS):
        m = np.full(1, message, BFLOAT16)
        parent = kept.apply(parent, kept.delta(m, parent), now)
    assert {v.dtype for v in parent.values()} == {np.dtype(np.float32)}
    # A difference is rounded by 2^-9 of itself, as it travels.
    assert parent[rule.shown][0] == pytest.approx(exact, rel=2**-9)
    assert kept.begin(parent, rates).dtype == BFLOAT16


def test_other_dtypes_have_no_master():
    for dtype in ("float32", "float64"):
        assert rules.for_dtype(rules.Elastic(), dtype) == rules.Elastic()


# Strategies.


class Transcription:
    """EASGD around a float32 center; its workers, of 16 bits, take no steps."""

    def __init__(self, dtype, center, workers, alpha, beta):
        self.dtype = DTYPES[dtype]
        self.center = np.asarray(center, np.float32)
        self.workers = [np.asarray(x, self.dtype) for x in workers]
        self.alpha, self.beta = np.float32(alpha), np.float32(beta)

    def difference(self, i):
        exact = self.workers[i].astype(np.float32) - self.center
        return exact.astype(self.dtype).astype(np.float32)

    def pull(self, i, d):
        x = self.workers[i].astype(np.float32) - self.alpha * d
        self.workers[i] = x.astype(self.dtype)

    def push(self, total):
        share = self.beta / np.float32(len(self.workers))
        self.center = self.center + share * total

    def jacobi(self):
        all_of_them = range(len(self.workers))
        differences = [self.difference(i) for i in all_of_them]
        for i in all_of_them:
            self.pull(i, differences[i])
        self.push(sum(differences[1:], differences[0]))

    def gauss_seidel(self):
        all_of_them = range(len(self.workers))
        differences = [self.difference(i) for i in all_of_them]
        self.push(sum(differences[1:], differences[0]))
        for i in all_of_them:
            self.pull(i, self.difference(i))

    def round_robin(self):
        for i in range(len(self.workers)):
            d = self.difference(i)
            self.pull(i, d)
            self.push(d)


@keras.saving.register_keras_serializable("master_test")
def output(_, y):
    return keras.ops.mean(y)


def build(strategy, make_optimizer, dtype="bfloat16"):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input([3]),
                keras.layers.Dense(
                    4, use_bias=False, kernel_initializer="ones", dtype=dtype
                ),
            ]
        )
        model.compile(make_optimizer(), loss=output)
        model.optimizer.build(model.trainable_variables)
    return model, compat.native_variable(model.layers[0].kernel)


def fit(model, steps, rows=2):
    x = np.zeros([rows * steps, 3], np.float32)
    model.fit(x, x[:, 0], batch_size=rows, shuffle=False, verbose=0)


def exact_center(kernel):
    return kernel.store.read_center(0).numpy()


def easgd(**options):
    return lambda: optimizers.EASGD(
        0.0, communication_period=1, jit_compile=False, **options
    )


def apart(kernel, dtype):
    """Sets two workers to points of their own."""
    generator = np.random.default_rng(3)
    points = generator.normal(1, 0.2, [2, 3, 4]).astype(DTYPES[dtype])
    kernel.assign_worker_values(points)
    return points


@pytest.mark.parametrize(
    ("order", "dtype", "workers_per_device"),
    [
        ("jacobi", "bfloat16", 1),
        ("gauss_seidel", "float16", 1),
        ("round_robin", "bfloat16", 1),
        ("jacobi", "float16", 2),
        ("round_robin", "bfloat16", 2),
    ],
)
def test_workers_and_master_are_those_of_a_transcription(
    order, dtype, workers_per_device
):
    devices = DEVICES[: 2 // workers_per_device]
    strategy = strategies.ElasticMirroredStrategy(
        devices, order, workers_per_device=workers_per_device, closing=False
    )
    model, kernel = build(strategy, easgd(beta=0.05), dtype)
    expected = Transcription(
        dtype, np.ones([3, 4]), apart(kernel, dtype), 0.025, 0.05
    )
    fit(model, 30)
    for _ in range(30):
        getattr(expected, order)()
    np.testing.assert_array_equal(exact_center(kernel), expected.center)
    np.testing.assert_array_equal(kernel.worker_values(), expected.workers)
    rounded = expected.center.astype(DTYPES[dtype])
    np.testing.assert_array_equal(kernel.numpy(), rounded)
    weights = model.get_weights()[0]
    assert weights.dtype == DTYPES[dtype]
    np.testing.assert_array_equal(weights, rounded)
    assert not np.array_equal(rounded.astype(np.float32), expected.center)


STRATEGIES = {
    "devices": lambda: strategies.ElasticMirroredStrategy(
        DEVICES, closing=False
    ),
    "one device": lambda: strategies.ElasticMirroredStrategy(
        DEVICES[:1], workers_per_device=2, closing=False
    ),
    "virtual": lambda: strategies.VirtualClusterStrategy(2),
}


@pytest.mark.parametrize("where", STRATEGIES)
def test_steps_of_a_256th_add_up(where):
    """Workers stay at 2; each exchange is half a unit in the last place."""
    free = {"moving_rate": 0.0, "beta": ULP / 2, "symmetric": False}
    model, kernel = build(STRATEGIES[where](), easgd(**free))
    kernel.assign_worker_values(np.full([2, 3, 4], 2, BFLOAT16))
    fit(model, 64, rows=1 if where == "virtual" else 2)
    # A virtual worker's exchange is of its own, of half of beta.
    by_two = 1 - ULP / 4 if where == "virtual" else 1 - ULP / 2
    assert exact_center(kernel)[0, 0] == pytest.approx(
        2 - by_two**64, abs=2**-9
    )
    assert float(kernel.numpy()[0, 0]) > 1.1


METHODS = {
    "gradients": lambda: optimizers.MDownpour(ULP / 64, momentum=0.5),
    "momentum": lambda: optimizers.EAMSGD(
        ULP, beta=ULP, communication_period=1
    ),
    "mean": lambda: optimizers.LocalSGD(
        keras.optimizers.SGD(2 * ULP), communication_period=2
    ),
    "average": lambda: optimizers.EASGD(
        2 * ULP, communication_period=1, center_average=ULP / 4
    ),
    "increments": lambda: optimizers.Downpour(2 * ULP, communication_period=2),
}


@pytest.mark.parametrize(
    ("method", "where"),
    [
        pytest.param(
            method,
            where,
            marks=[]
            if (method, where)
            in {("gradients", "devices"), ("average", "virtual")}
            else [pytest.mark.full],
        )
        for method in METHODS
        for where in ("devices", "virtual")
    ],
)
def test_methods_follow_float32(method, where):
    """The same with variables of float32, to what workers themselves round."""
    found = {}
    for dtype in ("bfloat16", "float32"):
        model, kernel = build(STRATEGIES[where](), METHODS[method], dtype)
        x = np.ones([64, 3], np.float32)
        model.fit(x, x[:, 0], batch_size=2, shuffle=False, verbose=0)
        found[dtype] = exact_center(kernel)[0, 0]
        slots = model.optimizer._center_slots.values()
        assert {v.dtype for vs in slots for v in vs} <= {"float32"}
    gone = 1 - found["float32"]
    assert gone > 0
    assert 1 - found["bfloat16"] == pytest.approx(gone, rel=0.1)


@pytest.mark.parametrize(
    "where", ["devices", pytest.param("virtual", marks=pytest.mark.full)]
)
def test_the_center_of_admm_is_the_mean_of_parts(where):
    model, kernel = build(
        STRATEGIES[where](), lambda: optimizers.ADMM(0.05, elasticity=1.0)
    )
    x = np.ones([64, 3], np.float32)
    model.fit(x, x[:, 0], batch_size=2, shuffle=False, verbose=0)
    parts = [v for v in model.optimizer.variables if v.name.endswith("pushed")]
    [pushed] = [compat.native_variable(v).worker_values() for v in parts]
    mean = pushed.astype(float).mean(0)
    assert np.abs(mean - 1).min() > 0.01
    np.testing.assert_allclose(exact_center(kernel), mean, atol=ULP / 2)


def test_what_is_conserved_is_checked_to_the_workers_rounding(monkeypatch):
    strategy = strategies.ElasticMirroredStrategy(
        DEVICES, check_conservation=True
    )
    model, kernel = build(strategy, easgd(beta=0.5))
    apart(kernel, "bfloat16")
    before = kernel.worker_values().astype(float).sum(0) + exact_center(kernel)
    fit(model, 1)
    after = kernel.worker_values().astype(float).sum(0) + exact_center(kernel)
    assert 0 < np.abs(after - before).max() <= 2 * ULP / 2
    apart(kernel, "bfloat16")
    monkeypatch.setattr(
        rules.Elastic, "settle", lambda self, point, d, rates: point - d
    )
    wrong, kernel = build(strategy, easgd(beta=0.5))
    apart(kernel, "bfloat16")
    with pytest.raises(tf.errors.InvalidArgumentError, match="kernel"):
        fit(wrong, 1)


# Files, and whoever sets the center.


averaged = easgd(beta=0.05, center_average=0.25)
WHERE = pytest.mark.parametrize("where", ["devices", "one device"])


def trained(where):
    strategy = STRATEGIES[where]()
    model, kernel = build(strategy, averaged)
    apart(kernel, "bfloat16")
    fit(model, 5)
    return model, kernel


def everything(model):
    kernel = compat.native_variable(model.layers[0].kernel)
    own = [
        compat.native_variable(v).worker_values()
        for v in model.optimizer.variables
    ]
    return [exact_center(kernel), kernel.worker_values(), *own]


def now_and_later(model):
    """All that there is, as it is and after more training."""
    now = everything(model)
    fit(model, 3)
    return [*now, *everything(model)]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@WHERE
def test_a_file_has_the_master(where, tmp_path):
    model, _ = trained(where)
    path = str(tmp_path / "model.keras")
    model.save(path)
    expected = now_and_later(model)
    with STRATEGIES[where]().scope():
        loaded = keras.models.load_model(path)
    assert_same(now_and_later(loaded), expected)


@WHERE
def test_a_checkpoint_has_the_master(where, tmp_path):
    model, _ = trained(where)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(tmp_path / "checkpoint")
    )
    expected = now_and_later(model)
    other, _ = build(STRATEGIES[where](), averaged)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
    assert_same(now_and_later(other), expected)


@WHERE
def test_whoever_sets_the_center_sets_the_master(where):
    model, kernel = trained(where)
    before = exact_center(kernel)
    model.set_weights(model.get_weights())  # Nothing new: nothing is lost.
    np.testing.assert_array_equal(exact_center(kernel), before)
    model.set_weights([np.full([3, 4], 1.5)])
    np.testing.assert_array_equal(exact_center(kernel), np.full([3, 4], 1.5))
    kernel.assign_add(np.full([3, 4], 0.25, BFLOAT16))
    np.testing.assert_array_equal(exact_center(kernel), np.full([3, 4], 1.75))


def test_what_is_shown_at_the_end_is_taken_back_from_the_master():
    strategy = strategies.ElasticMirroredStrategy(DEVICES)
    make = easgd(beta=0.05)
    model, kernel = build(strategy, make)
    apart(kernel, "bfloat16")
    model.optimizer.communication_period = 2
    plain = Transcription(
        "bfloat16", np.ones([3, 4]), kernel.worker_values(), 0.025, 0.05
    )
    for _ in range(3):  # Of 3 steps each, of which every second exchanges.
        fit(model, 3)
    for _ in range(5):
        plain.jacobi()
    closing = model.optimizer.closing
    assert closing is None or not np.array_equal(
        exact_center(kernel), plain.center
    )
    np.testing.assert_array_equal(kernel.worker_values(), plain.workers)
    center = exact_center(kernel) if closing is None else closing.center(0)
    np.testing.assert_array_equal(center, plain.center)


# Center servers.

VARIABLES = (
    layout.VariableSpec("kernel", (600, 3), "bfloat16", layout.PARAMETERS),
    layout.VariableSpec("scale", (2,), "float32", layout.PARAMETERS),
    layout.VariableSpec("mean", (3,), "bfloat16", layout.STATISTICS),
)
LAYOUT = layout.Layout(VARIABLES, 1)
KERNEL = [section.dtype for section in LAYOUT.sections].index("bfloat16")


def values(number=None, seed=0):
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(1, 0.2, section.size)
            if number is None
            else np.full(section.size, number)
        ).astype(layout.np_dtype(section.dtype))
        for section in LAYOUT.sections
    ]


def server(rule=None, workers=2):
    node = support.new_node(0, 1, grace_s=0.0)
    description = layout.Layout(VARIABLES, 1, rule).describe()
    for worker in range(workers):
        node.join(worker, 1, workers, description, f"{worker}", 0)
    node.offer(0, 1, -1, True)
    node.initialize(0, 1, -1, values(1.0))
    return node


def push_id(node, worker, sequence):
    return PushId(worker, 1, sequence, node.version)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_a_server_is_as_transcribed(codec):
    node = server()
    rates = {"beta": 0.05, "num_workers": 2}
    points = [values(seed=1), values(seed=2)]
    expected = Transcription(
        "bfloat16", np.ones(1800), [p[KERNEL] for p in points], 0.025, 0.05
    )
    for turn in range(20):
        for worker in (0, 1):
            sent = [array.copy() for array in points[worker]]
            _, answer = node.exchanges.exchange(
                push_id(node, worker, turn + 1), sent, rates, codec
            )
            if codec == "none":
                d = expected.difference(worker)
                assert answer[KERNEL].dtype == BFLOAT16
                np.testing.assert_array_equal(answer[KERNEL], d)
                expected.push(d)
    assert node.arrays[KERNEL].dtype == np.float32
    if codec == "none":
        np.testing.assert_array_equal(node.arrays[KERNEL], expected.center)
    else:  # Both move by what was sent.
        far = points[0][KERNEL].astype(float) + points[1][KERNEL]
        exact = far / 2 + (1 - far / 2) * (1 - 0.025) ** 40
        np.testing.assert_allclose(node.arrays[KERNEL], exact, atol=0.02)
    _, shown = node.exchanges.read()
    assert [a.dtype.name for a in shown] == [s.dtype for s in LAYOUT.sections]
    np.testing.assert_array_equal(
        shown[KERNEL], node.arrays[KERNEL].astype(BFLOAT16)
    )


def test_small_pushes_and_rounds_add_up_at_a_server():
    rule = rules.HeavyBall()
    node = server(rule, workers=1)
    rates = {"learning_rate": ULP / 8, "momentum": 0.5, "num_workers": 1}
    for turn in range(100):
        _, point = node.exchanges.take(
            push_id(node, 0, turn + 1), values(-1.0), rates
        )
    exact = moved(rule, -1.0, rates, np.float64, steps=100)
    np.testing.assert_allclose(node.arrays[KERNEL], exact, rtol=1e-6)
    assert point[KERNEL].dtype == BFLOAT16
    assert node.state.slots["velocity"][KERNEL].dtype == np.float32

    node = server(rules.Mean())
    for worker in (0, 1):  # Their mean is between two numbers of 16 bits.
        node.exchanges.deposit(
            push_id(node, worker, 1),
            values(1 + worker * ULP),
            {"num_workers": 2},
        )
    np.testing.assert_array_equal(
        node.arrays[KERNEL], np.full(1800, 1 + ULP / 2)
    )


def test_a_snapshot_has_the_master(tmp_path):
    node, rates = server(), {"beta": 0.05, "num_workers": 2}

    def exchange(node, turn):
        node.exchanges.exchange(
            push_id(node, 0, turn), values(seed=turn), rates
        )

    for turn in (1, 2, 3):
        exchange(node, turn)
    snapshots = snapshot_keeper.Snapshots(node, str(tmp_path), 60.0)
    snapshots.start()
    snapshots.stop()  # Takes a last one.
    restored = support.new_node(0, 1)
    assert snapshot_keeper.Snapshots(restored, str(tmp_path), 60.0).restore()
    for turn in (4, 5):
        for each in (node, restored):
            exchange(each, turn)
    for found, expected in zip(restored.arrays, node.arrays, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_center_of_float16_takes_nothing_beyond_it():
    """In float32 there would be room, and for workers it would be infinite."""
    specs = (layout.VariableSpec("a", (4,), "float16", layout.PARAMETERS),)
    state = support.new_node(0, 1).state
    state.describe(layout.Layout(specs, 1, rules.Add()).describe())
    state.begin([np.full(4, 60_000, np.float16)])
    with pytest.raises(Exception, match="would make it infinite"):
        state.apply([np.full(4, 6_000, np.float16)], {"num_workers": 1})
    np.testing.assert_array_equal(state.values[0], np.full(4, 60_000.0))


def test_a_worker_of_a_cluster_trains_with_a_master_there():
    cluster = Cluster()
    try:
        strategy = cluster.strategy("blocking")
        free = {"moving_rate": 0.0, "beta": ULP / 2, "symmetric": False}
        model, kernel = build(strategy, easgd(**free))
        assert not kernel.store.masters  # It is the servers'.
        kernel.assign(np.ones([3, 4]))
        fit(model, 1, rows=1)
        kernel.assign_worker_values(np.full([1, 3, 4], 2, BFLOAT16))
        fit(model, 64, rows=1)
        held = np.concatenate([shard.arrays[0] for shard in cluster.shards])
        assert held.dtype == np.float32
        exact = 2 - (1 - ULP / 2) ** 64
        np.testing.assert_allclose(held, exact, atol=0.01)
        np.testing.assert_array_equal(
            kernel.numpy().reshape(-1), held.astype(BFLOAT16)
        )
    finally:
        cluster.close()
