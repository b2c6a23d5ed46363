"""Stores: the same of a worker for each device and of a bank of workers."""

import gc
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import devices
from tests import source_tree
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic.strategies import stores
from tf_elastic.strategies.elastic_mirrored import ElasticMirroredExtended
from tf_elastic.strategies.elastic_strategy import ElasticStrategy

DTYPES = [
    *("float16", "bfloat16", "float32", "float64", "bool"),
    *("int8", "uint8", "int32", "uint32", "int64", "uint64"),
]
DEVICES = devices.names(3)


def create_on(devices):
    """What a strategy makes variables by, without one."""

    def create(initial_value, **kwargs):
        made = []
        for device in devices:
            with tf.device(device):
                made.append(tf.Variable(initial_value, **kwargs))
        return made

    return create


def store_of(kind, initial, p=3, has_center=True):
    """A store, and the bank that it is of, or None."""
    bank = None
    if kind == "devices":
        make, create = stores.DeviceStore.make, create_on(DEVICES[:p])
    else:
        bank = stores.Bank(p)
        make, create = bank.make, create_on(DEVICES[:1])
    arguments = {"initial_value": initial, "name": "x", "trainable": True}
    return make(create, arguments, lambda dtype: has_center), bank


def numbers(seed, shape, dtype):
    """Values of which each is exact in the dtype."""
    drawn = np.random.default_rng(seed).integers(0, 2, shape)
    if dtype != "bool":
        drawn = drawn * 3 + np.random.default_rng(seed + 1).integers(
            0, 100, shape
        )
    return tf.cast(drawn, dtype)


def same(found, expected):
    """Whether tensors are equal to the bit."""
    found, expected = tf.stack(found), tf.stack(expected)
    assert found.dtype == expected.dtype
    return found.numpy().tobytes() == expected.numpy().tobytes()


kinds = pytest.mark.parametrize("kind", ["devices", "bank"])
of_all_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@kinds
@of_all_dtypes
def test_all_begin_at_the_initial_value(kind, dtype):
    initial = numbers(0, (2, 3), dtype)
    store, _ = store_of(kind, initial)
    assert store.num_workers == 3
    assert same(store.values(), [initial] * 3)
    assert same([copy.read_value() for copy in store.centers][:1], [initial])
    assert same(store.center_at(2).read_value(), initial)
    assert store.shown[0] is store.centers[0]
    assert all(copy.trainable for copy in store.live)


@kinds
def test_without_a_center_the_live_copy_is_shown(kind):
    store, _ = store_of(kind, [1.0], has_center=False)
    assert store.centers == ()
    assert store.shown[0] is store.live[0]
    store.set_all([3.0])
    assert [float(value[0]) for value in store.values()] == [3.0] * 3


@kinds
@of_all_dtypes
@pytest.mark.parametrize("in_graph", [False, True])
def test_values_are_set_and_read_to_the_bit(kind, dtype, in_graph):
    store, _ = store_of(kind, numbers(0, (2, 3), dtype))
    values = [numbers(10 + i, (2, 3), dtype) for i in range(3)]

    def go_through():
        found = []
        for i, value in enumerate(values):
            store.assign(i, value)
            found += store.values()
        found += [store.read(i) for i in range(3)]
        store.set_center(values[1])
        found += [store.center_at(i).read_value() for i in range(3)]
        found += store.values()
        store.set_all(values[2])
        return [*found, *store.values(), store.center_at(0).read_value()]

    found = (tf.function(go_through) if in_graph else go_through)()
    first = numbers(0, (2, 3), dtype)
    a, b, c = values
    expected = [a, first, first, a, b, first, a, b, c, a, b, c]
    expected += [b, b, b, a, b, c, c, c, c, c]
    assert same(found, expected)


@kinds
@pytest.mark.parametrize("in_graph", [False, True])
def test_an_update_is_of_what_each_holds(kind, in_graph):
    store, bank = store_of(kind, [0.0, 0.0])
    for i in range(3):
        store.assign(i, [i, 10.0 * i])
    store.set_center([100.0, 100.0])
    if bank is not None:
        bank.give_turn_to(1)
    live = store.live[0].numpy()

    def add():
        store.update_all(lambda i, copy: copy.assign_add([1.0, 2.0]))

    (tf.function(add) if in_graph else add)()
    found = [value.numpy().tolist() for value in store.values()]
    assert found == [[1, 2], [2, 12], [3, 22]]
    assert store.center_at(0).numpy().tolist() == [101, 102]
    assert (store.live[0].numpy() == live + [1, 2]).all()


@of_all_dtypes
def test_a_worker_finds_its_values_when_its_turn_comes(dtype):
    """To the bit, NaN with its payload too."""
    shapes = [(), (2, 3), (0,), (5,)]
    bank = stores.Bank(3)
    made = [
        bank.make(
            create_on(DEVICES[:1]),
            {"initial_value": numbers(k, shape, dtype)},
            lambda dtype: False,
        )
        for k, shape in enumerate(shapes)
    ]
    give_turn = tf.function(bank.give_turn_to)
    held = [[store.live[0].read_value() for store in made]] * 3
    for turn, worker in enumerate([2, 0, 0, 1, 2, 1, 0, 2]):
        give_turn(tf.constant(worker))
        assert int(bank.turn) == worker
        for k, store in enumerate(made):
            assert same(store.live[0].read_value(), held[worker][k])
        step = [
            numbers(100 * turn + k, shape, dtype)
            for k, shape in enumerate(shapes)
        ]
        if turn == 3 and made[1].live[0].dtype.is_floating:
            bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[
                step[1].dtype.size
            ]
            step[1] = tf.bitcast(np.full((2, 3), ~bits(0) - bits(5)), dtype)
        for store, value in zip(made, step, strict=True):
            store.live[0].assign(value)
        held = [step if i == worker else held[i] for i in range(3)]
        for k, store in enumerate(made):
            assert same(store.values(), [held[i][k] for i in range(3)])


def test_all_turns_are_one_trace():
    store, bank = store_of("bank", tf.zeros([4]), p=5)
    traces = []

    @tf.function
    def take_turn(worker):
        traces.append(worker)
        bank.give_turn_to(worker)
        store.live[0].assign_add(tf.ones([4]))
        return store.read(worker)

    for worker in [0, 3, 1, 4, 2, 3]:
        take_turn(tf.constant(worker))
    assert len(traces) == 1
    counts = [int(value[0]) for value in store.values()]
    assert counts == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("worker", [-1, 3])
def test_nobody_else_gets_a_turn(worker, in_graph):
    store, bank = store_of("bank", [1.0])
    give_turn = bank.give_turn_to
    if in_graph:
        give_turn = tf.function(give_turn)
    bank.give_turn_to(2)
    store.live[0].assign([7.0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="has 3 workers"):
        give_turn(tf.constant(worker))
    assert int(bank.turn) == 2
    assert [float(value[0]) for value in store.values()] == [1, 1, 7]


@pytest.mark.parametrize("num_workers", [0, -1, 2.0, True, None])
def test_a_bank_has_workers(num_workers):
    with pytest.raises(ValueError, match="Received: num_workers="):
        stores.Bank(num_workers)


def test_a_bank_is_on_one_device():
    with pytest.raises(ValueError, match="on 2 devices"):
        stores.Bank(2).make(
            create_on(DEVICES[:2]), {"initial_value": 0.0}, lambda dtype: True
        )


def test_a_store_that_is_gone_takes_no_turns():
    store, bank = store_of("bank", [1.0])
    rows = store.live[0]
    del store
    gc.collect()
    bank.give_turn_to(1)
    rows.assign([2.0])
    bank.give_turn_to(0)
    assert rows.numpy() == [2.0]


# In a process of its own, whose memory is all counted at its highest.
_SWAPS = """
import tensorflow as tf
from tf_elastic.strategies import stores

ROW, P = 1 << 20, {p}
bank = stores.Bank(P)

def create(**kwargs):
    return [tf.Variable(**kwargs)]

def peak():
    # What `getrusage` has may be the parent's.
    with open("/proc/self/status", encoding="utf-8") as file:
        (line,) = [line for line in file if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])

def use(store):
    bank.give_turn_to(tf.constant(1))
    store.live[0].assign_add(tf.ones([store.live[0].shape[0]]))
    store.assign(0, store.read(1))
    bank.give_turn_to(tf.constant(0))
    store.set_all(store.read(1))
    store.update_all(lambda i, copy: copy.assign_add(tf.ones_like(copy)))

few = bank.make(create, dict(initial_value=tf.zeros([8])), lambda dtype: False)
for function in (use, tf.function(use)):
    function(few)
del few
before = peak()
many = bank.make(
    create, dict(initial_value=tf.zeros([ROW])), lambda dtype: False
)
made = peak()
for function in (use, tf.function(use)):
    function(many)
print(made - before, peak() - before)
"""


def test_memory_is_a_row_for_each_worker():
    """And for the live copy, with a few rows more in passing."""
    p, row = 64, 4 * (1 << 20)
    out = subprocess.run(
        [sys.executable, "-c", _SWAPS.format(p=p)],
        capture_output=True,
        text=True,
        check=True,
        cwd=source_tree.ROOT,
    ).stdout
    made, used = map(int, out.split())
    assert p * row <= made <= (p + 8) * row
    assert p * row <= used <= (p + 16) * row


class OnBank(ElasticMirroredExtended):
    """One device, on which workers take turns."""

    def __init__(self, strategy, bank):
        self.bank = bank
        super().__init__(strategy, DEVICES[:1], None, False, False)

    def make_store(self, create, arguments, has_center, is_common):
        return self.bank.make(create, arguments, has_center)


class OnBankStrategy(ElasticStrategy):
    def __init__(self, bank):
        super().__init__(OnBank(self, bank))


def model_on(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            optimizers.EAMSGD(
                keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9),
                momentum=0.9,
                communication_period=None,
            ),
            loss="mse",
        )
    return model


def test_workers_of_a_bank_train_as_if_alone(strategy):
    """Each one's weights, statistics, velocity and clock are its own."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3, 4, 8, 4)).astype("float32")
    y = draw.normal(size=(3, 4, 8, 3)).astype("float32")
    steps = [0, 1, 2, 2, 0, 1, 1, 0, 2]
    bank = stores.Bank(3)
    model = model_on(OnBankStrategy(bank))
    taken = [0, 0, 0]
    for worker in steps:
        bank.give_turn_to(worker)
        model.train_on_batch(x[worker, taken[worker]], y[worker, taken[worker]])
        taken[worker] += 1
    native = compat.native_variable
    variables = [*model.weights, *model.optimizer.variables]
    values = [native(variable).worker_values() for variable in variables]
    for worker in range(3):
        alone = model_on(strategy(1))
        for step in range(taken[worker]):
            alone.train_on_batch(x[worker, step], y[worker, step])
        expected = [*alone.weights, *alone.optimizer.variables]
        for variable, found in zip(expected, values, strict=True):
            np.testing.assert_array_equal(
                found[worker], native(variable).worker_values()[0]
            )
    centers = [native(variable).numpy() for variable in model.weights]
    untrained = model_on(strategy(1)).weights
    for variable, found in zip(untrained, centers, strict=True):
        np.testing.assert_array_equal(found, variable.numpy())
    # What is set from outside is set on all of them.
    model.set_weights([center + 1 for center in centers])
    for variable, center in zip(model.weights, centers, strict=True):
        for found in native(variable).worker_values():
            np.testing.assert_array_equal(found, center + 1)


def set_apart(variables):
    """Gives all workers values of their own; these, (p, ...) of each."""
    expected = []
    for k, variable in enumerate(variables):
        values = [
            numbers(10 * k + i, variable.shape, variable.dtype)
            for i in range(3)
        ]
        compat.native_variable(variable).assign_worker_values(values)
        expected.append(tf.stack(values).numpy())
    return expected


def test_workers_of_a_bank_are_in_checkpoints(tmp_path):
    bank = stores.Bank(3)
    model = model_on(OnBankStrategy(bank))
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    native = compat.native_variable
    variables = [*model.weights, *model.optimizer.variables]
    expected = set_apart(variables)
    bank.give_turn_to(2)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.write(str(tmp_path / "workers"))
    for variable in variables:
        native(variable).assign_worker_values([0 * variable] * 3)
    bank.give_turn_to(1)
    checkpoint.read(path).assert_consumed()
    for variable, values in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(native(variable).worker_values(), values)


def test_workers_of_a_bank_are_in_files(tmp_path):
    bank = stores.Bank(3)
    model = model_on(OnBankStrategy(bank))
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    expected = set_apart([*model.weights, *model.optimizer.variables])
    bank.give_turn_to(2)
    model.save(tmp_path / "model.keras")
    with OnBankStrategy(stores.Bank(3)).scope():
        again = keras.models.load_model(tmp_path / "model.keras")
    for variable, values in zip(
        [*again.weights, *again.optimizer.variables], expected, strict=True
    ):
        np.testing.assert_array_equal(
            compat.native_variable(variable).worker_values(), values
        )
