"""The contract with TensorFlow's and Keras' private parts.

Each test names the piece it is about, so that a release that breaks one says
which, and what of the package relies on it.
"""

import ast
import configparser
import importlib
import inspect
import subprocess
import sys
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import source_tree
from tf_elastic import strategies

COMPAT = source_tree.ROOT / "tf_elastic" / "compat"
VERSIONS = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"


def broken(piece, relied_on_by):
    """The message of a test that fails."""
    return (
        f"{piece} is not in {VERSIONS} what tf_elastic expects. "
        f"{relied_on_by} relies on it: mend tf_elastic/compat."
    )


def private_pieces():
    """(module, name, who uses it) of all private names that compat uses."""
    files = sorted(COMPAT.glob("*.py"))
    assert files
    found = {p for file in files for p in private_pieces_of(file)}
    return sorted(found)


def private_pieces_of(file):
    module = source_tree.parse(file)
    aliases = {}
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith(
            ("tensorflow.python", "keras.src")
        ):
            for alias in node.names:
                aliases[alias.asname or alias.name] = (
                    f"{node.module}.{alias.name}"
                )
    pieces = []
    for statement in module.body:
        user = getattr(statement, "name", None) or ast.unparse(statement)
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in aliases
            ):
                pieces.append((aliases[node.value.id], node.attr, user))
    return pieces


@pytest.fixture(scope="module")
def compat():
    """Imported here, so that a piece that is gone fails a test by name."""
    return importlib.import_module("tf_elastic.compat")


@pytest.fixture
def mirrored():
    # No collective operations: their keys are those of the whole process, so
    # a second strategy of the same devices runs into those of the first.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


# What is there.


@pytest.mark.parametrize(("module", "name", "user"), private_pieces())
def test_a_private_name_is_there(module, name, user):
    piece = f"{module}.{name}"
    try:
        found = hasattr(importlib.import_module(module), name)
    except ImportError:
        parent, _, last = module.rpartition(".")
        found = hasattr(
            getattr(importlib.import_module(parent), last, None), name
        )
    assert found, broken(piece, f"compat.{user}")


def test_the_names_that_are_used_have_been_found():
    names = {name for _, name, _ in private_pieces()}
    assert {"MirroredExtended", "MirroredVariable"} <= names
    assert "TFE_Py_TapeSetIsEmpty" in names


STRATEGY = "strategies.ElasticMirroredStrategy"
VARIABLES = "strategies.worker_variable"
OPTIMIZERS = "optimizers.ElasticOptimizer"
SIGNATURES = [
    # (class, method, its parameters without self, who relies on it)
    (
        "MirroredExtended",
        "__init__",
        ["container_strategy", "devices"],
        STRATEGY,
    ),
    (
        "MirroredExtended",
        "_create_variable",
        ["next_creator", "kwargs"],
        STRATEGY,
    ),
    (
        "MirroredExtended",
        "_update",
        ["var", "fn", "args", "kwargs", "group"],
        STRATEGY,
    ),
    (
        "MirroredExtended",
        "_replica_ctx_update",
        ["var", "fn", "args", "kwargs", "group"],
        STRATEGY,
    ),
    (
        "MirroredExtended",
        "_replica_ctx_all_reduce",
        ["reduce_op", "value", "options"],
        STRATEGY,
    ),
    ("MirroredExtended", "_use_merge_call", [], STRATEGY),
    ("MirroredExtended", "_container_strategy", [], STRATEGY),
    (
        "MirroredExtended",
        "call_for_each_replica",
        ["fn", "args", "kwargs"],
        STRATEGY,
    ),
    (
        "MirroredVariable",
        "__init__",
        ["strategy", "values", "aggregation"],
        VARIABLES,
    ),
    ("MirroredVariable", "_get_replica", ["replica_id"], VARIABLES),
    (
        "MirroredVariable",
        "_update_replica",
        ["update_fn", "value", "kwargs"],
        VARIABLES,
    ),
    (
        "MirroredVariable",
        "_update_cross_replica",
        ["update_fn", "value", "kwargs"],
        VARIABLES,
    ),
    ("MirroredVariable", "_serialize_to_tensors", [], VARIABLES),
    (
        "MirroredVariable",
        "_restore_from_tensors",
        ["restored_tensors"],
        VARIABLES,
    ),
    (
        "MirroredVariable",
        "assign",
        ["value", "use_locking", "name", "read_value"],
        VARIABLES,
    ),
    (
        "Optimizer",
        "_backend_update_step",
        ["grads", "trainable_variables", "learning_rate"],
        "compat.make_local",
    ),
    (
        "Optimizer",
        "_all_reduce_sum_gradients",
        ["grads_and_vars"],
        "compat.make_local",
    ),
    ("MirroredVariable", "_gather_saveables_for_checkpoint", [], VARIABLES),
    ("Optimizer", "_clip_gradients", ["grads"], OPTIMIZERS),
    (
        "Optimizer",
        "_update_model_variables_moving_average",
        ["trainable_variables"],
        OPTIMIZERS,
    ),
    (
        "Optimizer",
        "_overwrite_model_variables_with_average_value",
        ["trainable_variables"],
        OPTIMIZERS,
    ),
    ("Optimizer", "_get_variable_index", ["variable"], OPTIMIZERS),
    ("Optimizer", "save_own_variables", ["store"], OPTIMIZERS),
    ("Optimizer", "load_own_variables", ["store"], OPTIMIZERS),
    ("LossScaleOptimizer", "check_finite", ["grads"], STRATEGY),
]


@pytest.mark.parametrize(("owner", "method", "expected", "user"), SIGNATURES)
def test_a_private_method_takes_what_we_pass(
    compat, owner, method, expected, user
):
    owner = getattr(compat, owner, None) or getattr(keras.optimizers, owner)
    piece = f"{owner.__module__}.{owner.__name__}.{method}"
    function = getattr(owner, method, None)
    assert callable(function), broken(piece, user)
    parameters = list(inspect.signature(function).parameters)
    if parameters and parameters[0] == "self":
        del parameters[0]
    # What comes after those we pass must have a default.
    rest = [
        p
        for name, p in inspect.signature(function).parameters.items()
        if name in parameters[len(expected) :]
    ]
    assert parameters[: len(expected)] == expected, broken(piece, user)
    assert all(
        p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        for p in rest
    ), broken(piece, user)


def test_a_mirrored_strategy_has_its_devices(mirrored):
    message = broken("MirroredExtended._devices", STRATEGY)
    assert len(getattr(mirrored.extended, "_devices", ())) == 2, message


def test_a_mirrored_variable_has_its_copies(compat, mirrored):
    with mirrored.scope():
        variable = tf.Variable([1.0, 2.0])
    message = broken("MirroredVariable.values", VARIABLES)
    assert isinstance(variable, compat.MirroredVariable), message
    assert len(variable.values) == 2, message
    assert tuple(variable._values) == tuple(variable.values), broken(
        "MirroredVariable._values", VARIABLES
    )
    for i, copy in enumerate(variable.values):
        assert f"CPU:{i}" in copy.device, message
        np.testing.assert_array_equal(copy.read_value(), [1.0, 2.0])
    assert isinstance(compat.MirroredVariable.handle, property), broken(
        "MirroredVariable.handle", VARIABLES
    )


@pytest.mark.parametrize(
    "name",
    [
        "_distribution_strategy",
        "_iterations",
        "_trainable_variables",
        "_model_variables_moving_average",
    ],
)
def test_an_optimizer_has_its_attributes(name):
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build([keras.Variable([1.0])])
    assert hasattr(optimizer, name), broken(f"Optimizer.{name}", OPTIMIZERS)


# Tapes.

TAPES = "compat.tape_is_active, which tells a worker from the center,"


def test_no_tape(compat):
    assert not compat.tape_is_active(), broken("A tape's state", TAPES)


def test_a_tape_is_seen_while_it_is_open(compat):
    with tf.GradientTape():
        assert compat.tape_is_active(), broken("A tape's state", TAPES)
        with tf.GradientTape():
            assert compat.tape_is_active()
        assert compat.tape_is_active()
    assert not compat.tape_is_active(), broken("A closed tape", TAPES)


def test_a_tape_that_stops_recording_is_off_its_thread(compat):
    """A pause by hand; that of `tf.recompute_grad`, below, is another."""
    with tf.GradientTape() as tape:
        with tape.stop_recording():
            assert not compat.tape_is_active(), broken("stop_recording", TAPES)
        assert compat.tape_is_active()
    assert not compat.tape_is_active()


def test_a_persistent_tape_counts_no_longer_when_closed(compat):
    with tf.GradientTape(persistent=True) as tape:
        x = tf.constant(1.0)
        tape.watch(x)
        y = x * x
    assert not compat.tape_is_active()
    tape.gradient(y, x)
    assert not compat.tape_is_active(), broken("A persistent tape", TAPES)


def test_a_tape_left_by_an_error_is_closed(compat):
    with pytest.raises(ZeroDivisionError):
        with tf.GradientTape():
            raise ZeroDivisionError
    assert not compat.tape_is_active(), broken("A tape left early", TAPES)


def test_a_tape_is_seen_on_its_thread_only(compat):
    seen = []
    with tf.GradientTape():
        thread = threading.Thread(
            target=lambda: seen.append(compat.tape_is_active())
        )
        thread.start()
        thread.join(30)
    assert seen == [False], broken("A tape's thread", TAPES)


def spy(compat, seen):
    """A function of a tensor that notes what it sees when it is traced."""

    def function(x):
        seen.append(compat.tape_is_active())
        return x * x

    return function


def gradient(function):
    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


def in_while_loop(function):
    return lambda x: tf.while_loop(
        lambda i, y: i < 1, lambda i, y: (i + 1, function(y)), (0, x)
    )[1]


def in_cond(function):
    return lambda x: tf.cond(x > 0, lambda: function(x), lambda: -x)


def in_custom_gradient(function):
    @tf.custom_gradient
    def custom(x):
        return function(x), lambda upstream: 2 * x * upstream

    return custom


WRAPPERS = {
    "plain": lambda function: function,
    "tf.function": tf.function,
    "tf.recompute_grad": tf.recompute_grad,
    "tf.custom_gradient": in_custom_gradient,
    "tf.while_loop": in_while_loop,
    "tf.cond": in_cond,
    "tf.function of tf.while_loop": lambda f: tf.function(in_while_loop(f)),
    "tf.function of tf.cond": lambda f: tf.function(in_cond(f)),
    "tf.function of tf.recompute_grad": lambda f: tf.function(
        tf.recompute_grad(f)
    ),
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_tape_is_seen_from_inside_of(compat, name, graph):
    """Also where the whole gradient is traced, as in Keras' train step."""
    seen = []
    wrapped = WRAPPERS[name](spy(compat, seen))

    def compute():
        return gradient(wrapped)

    result = (tf.function(compute) if graph else compute)()
    assert float(result) == 6.0
    assert seen and all(seen), broken(f"A tape around {name}", TAPES)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_no_tape_is_seen_from_inside_of(compat, name, graph):
    seen = []
    wrapped = WRAPPERS[name](spy(compat, seen))
    result = (tf.function(wrapped) if graph else wrapped)(tf.constant(3.0))
    assert float(result) == 9.0
    assert seen and not any(seen), broken(f"No tape around {name}", TAPES)


def test_replicas_see_their_tape(compat, mirrored):
    """Also on the threads that trace the replicas."""
    seen = []

    def step(with_tape):
        def replica():
            if with_tape:
                gradient(spy(compat, seen))
            else:
                spy(compat, seen)(tf.constant(1.0))

        tf.function(lambda: mirrored.run(replica))()

    step(True)
    assert len(seen) == 2 and all(seen), broken("A replica's tape", TAPES)
    seen.clear()
    step(False)
    assert len(seen) == 2 and not any(seen), broken("A replica", TAPES)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_keras_opens_a_tape_to_train_and_none_to_evaluate(compat, run_eagerly):
    seen = {"train": [], "infer": []}

    class Spy(keras.layers.Layer):
        def call(self, inputs, training=False):
            key = "train" if training else "infer"
            if not isinstance(inputs, keras.KerasTensor):
                seen[key].append(compat.tape_is_active())
            return inputs

    model = keras.Sequential([Spy(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.train_on_batch(x, y)
    assert seen["train"] and seen["train"][-1], broken("Keras' tape", TAPES)
    seen["infer"].clear()
    model.test_on_batch(x, y)
    model.predict_on_batch(x)
    model(x)
    assert seen["infer"] and not any(seen["infer"]), broken(
        "Keras' evaluation", TAPES
    )


# What Keras says when it creates variables.


@pytest.fixture
def created():
    """What the creators of all variables were told, in the test."""
    calls = []

    def note(next_creator, **kwargs):
        calls.append(kwargs)
        return next_creator(**kwargs)

    with tf.variable_creator_scope(note):
        yield calls


def train_once(optimizer):
    """A network of all kinds of variables, through one step."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile(
        optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.train_on_batch(np.ones((6, 4)), np.zeros(6))
    return model


OPTIMIZER_OPTIONS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(use_ema=True),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 10)
    ),
    "accumulation": lambda: keras.optimizers.AdamW(
        gradient_accumulation_steps=2
    ),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD()
    ),
}


def test_the_end_of_fit_is_told(compat):
    """Keras ends the optimizer of `compile`, once, after the last epoch."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    told = []
    compat.at_end_of(
        model.optimizer, lambda: told.append(int(model.optimizer.iterations))
    )
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, batch_size=2, epochs=3, verbose=0)
    assert told == [6], broken("Trainer.fit", "compat.at_end_of")
    model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=2, verbose=0)
    assert told == [6, 8], broken("Trainer.fit", "compat.at_end_of")


def test_keras_steps_are_told_from_others(compat, mirrored, monkeypatch):
    """What `fit`, `evaluate` and `predict` hand to `strategy.run`."""
    seen = []
    run = tf.distribute.MirroredStrategy.run

    def spied(self, fn, *args, **kwargs):
        seen.append((compat.is_keras_step(fn), compat.is_train_step(fn)))
        return run(self, fn, *args, **kwargs)

    monkeypatch.setattr(tf.distribute.MirroredStrategy, "run", spied)
    with mirrored.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
    x, y = np.ones((4, 2)), np.ones((4, 1))
    for method, expected in (
        (lambda: model.fit(x, y, verbose=0), (True, True)),
        (lambda: model.evaluate(x, y, verbose=0), (True, False)),
        (lambda: model.predict(x, verbose=0), (True, False)),
    ):
        seen.clear()
        method()
        assert set(seen) == {expected}, broken(
            "What Keras hands to `strategy.run`", "Which copy a replica sees"
        )
    assert not compat.is_keras_step(lambda: None)


def test_an_iterator_of_the_host_is_one_that_functions_take(compat):
    """Also with another iterator of the same kind, without a new trace."""
    strategy = strategies.ElasticMirroredStrategy(["CPU:0", "CPU:1"])
    data = tf.data.Dataset.range(1, 8).batch(4)
    traces = []

    @tf.function(reduce_retracing=True)
    def total(iterator):
        traces.append(iterator)
        parts = strategy.experimental_local_results(iterator.get_next())
        return [tf.reduce_sum(part) for part in parts]

    distributed = strategy.experimental_distribute_dataset(data)
    for _ in range(2):
        iterator = iter(distributed)
        assert isinstance(iterator, compat.HostIterator)
        assert isinstance(iterator, tf.distribute.DistributedIterator), broken(
            "`input_lib.DistributedIteratorBase`", "`fit` on the host's devices"
        )
        sums = [[int(t) for t in total(iterator)] for _ in range(2)]
        assert sums == [[1 + 2, 3 + 4], [5 + 6, 7]]
        with pytest.raises(tf.errors.OutOfRangeError):
            total(iterator)
    assert len(traces) == 1, broken("`TypeSpec`", "`compat.HostIterator`")
    optional = iter(distributed).get_next_as_optional()
    assert [v.numpy().tolist() for v in optional.get_value().values] == [
        [1, 2],
        [3, 4],
    ]
    parameters = inspect.signature(keras.Model._maybe_symbolic_build).parameters
    assert list(parameters) == ["self", "iterator", "data_batch"], broken(
        "`Model._maybe_symbolic_build`", "`compat.build_by_specification`"
    )


@pytest.mark.parametrize("option", OPTIMIZER_OPTIONS)
def test_clocks_are_iterations_and_learning_rate(compat, created, option):
    train_once(OPTIMIZER_OPTIONS[option]())
    names = {kwargs["name"] for kwargs in created if compat.is_clock(kwargs)}
    expected = {"iteration", "learning_rate"}
    if option == "schedule":
        expected = {"iteration"}
    assert names == expected, broken(
        "The aggregation of an optimizer's clocks", "compat.is_clock"
    )


def test_an_optimizers_clock_and_rate(compat):
    """Calls are counted; a schedule is no variable."""
    message = broken("An optimizer's variables", "compat.clock_and_rate")
    optimizer = OPTIMIZER_OPTIONS["accumulation"]()
    train_once(optimizer)
    calls, rate = compat.clock_and_rate(optimizer)
    assert int(calls) == 1 and isinstance(rate, tf.Variable), message
    optimizer.learning_rate = 0.25
    assert float(rate) == 0.25, message
    _, rate = compat.clock_and_rate(OPTIMIZER_OPTIONS["schedule"]())
    assert not isinstance(rate, tf.Variable), message


def test_seed_states_are_those_of_seed_generators(compat, created):
    generator = keras.random.SeedGenerator(3)
    train_once("sgd")
    seeds = [kwargs for kwargs in created if compat.is_seed_state(kwargs)]
    message = broken("The name of a seed's state", "compat.is_seed_state")
    # The generator's, and that of the dropout.
    assert len(seeds) == 2, message
    assert generator.state.name == seeds[0]["name"], message
    for kwargs in created:
        if compat.is_seed_state(kwargs):
            assert not kwargs["trainable"], message
        else:
            assert "seed" not in kwargs["name"], message


def test_metrics_are_summed_up_on_read(compat, created):
    train_once(keras.optimizers.Adam())
    names = {kwargs["name"] for kwargs in created if compat.is_on_read(kwargs)}
    assert names == {"total", "count"}, broken(
        "The synchronization of Keras' metrics", "compat.is_on_read"
    )


def test_slots_are_colocated_with_their_variables(mirrored):
    """How the strategy tells an optimizer's slot from a model's variable."""
    with mirrored.scope():
        optimizer = keras.optimizers.SGD(momentum=0.9)
        weight = keras.Variable([1.0, 2.0], name="weight")
    calls = []

    def note(next_creator, **kwargs):
        calls.append(kwargs)
        return next_creator(**kwargs)

    with mirrored.scope(), tf.variable_creator_scope(note):
        optimizer.build([weight])
    slots = [k for k in calls if "momentum" in k["name"]]
    assert len(slots) == 1, broken("A slot's name", STRATEGY)
    assert slots[0].get("colocate_with") is weight._value, broken(
        "colocate_with of a slot", f"{STRATEGY}._create_variable"
    )


# What tells functions of Keras apart.


def test_the_finite_check_is_recognised(compat):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    message = broken("LossScaleOptimizer.check_finite", STRATEGY)
    assert compat.is_finite_check(optimizer.check_finite), message
    for other in (optimizer.apply, optimizer.build, len, lambda grads: True):
        assert not compat.is_finite_check(other), message


def test_the_finite_check_is_what_keras_asks_of_replicas(
    compat, mirrored, monkeypatch
):
    asked = []
    original = compat.MirroredExtended.call_for_each_replica

    def note(self, fn, args=(), kwargs=None):
        asked.append(compat.is_finite_check(fn))
        return original(self, fn, args, kwargs)

    monkeypatch.setattr(compat.MirroredExtended, "call_for_each_replica", note)
    with mirrored.scope():
        weight = keras.Variable([1.0, 2.0])
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
        optimizer.build([weight])
    step = tf.function(
        lambda: mirrored.run(lambda: optimizer.apply([tf.ones(2)], [weight]))
    )
    step()
    message = broken("LossScaleOptimizer under a strategy", STRATEGY)
    assert asked.count(True) == 1, message
    assert asked.count(False) >= 2, message  # run itself, and the update


def test_the_swap_of_averages_is_recognised(compat, mirrored, monkeypatch):
    with mirrored.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(use_ema=True), "mse")
        model.optimizer.build(model.trainable_variables)
    swaps = []
    original = compat.MirroredExtended._update

    def note(self, var, fn, args, kwargs, group):
        swaps.append(compat.is_ema_swap(fn))
        return original(self, var, fn, args, kwargs, group)

    monkeypatch.setattr(compat.MirroredExtended, "_update", note)
    message = broken("keras.callbacks.SwapEMAWeights", "compat.is_ema_swap")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=4, verbose=0)
    assert swaps and not any(swaps), message
    callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    callback.set_model(model)
    for change in (callback._swap_variables, callback._finalize_ema_values):
        swaps.clear()
        change()
        assert swaps and all(swaps), message


def test_no_other_function_is_a_swap(compat):
    for function in (len, lambda a: a, np.add, keras.ops.add, tf.add):
        assert not compat.is_ema_swap(function)


# Keras' optimizers and variables.


def test_the_native_variable_of_a_keras_variable(compat, mirrored):
    message = broken("keras.Variable._value", "compat.native_variable")
    variable = keras.Variable([1.0, 2.0])
    assert isinstance(compat.native_variable(variable), tf.Variable), message
    native = tf.Variable(1.0)
    assert compat.native_variable(native) is native
    with mirrored.scope():
        variable = keras.Variable([1.0, 2.0])
    native = compat.native_variable(variable)
    assert isinstance(native, compat.MirroredVariable), message
    assert native.trainable and native.dtype == tf.float32, message


def test_make_local_goes_through_the_update(compat):
    calls = []

    def update(step, grads, variables, learning_rate):
        calls.append((grads, variables, float(learning_rate)))
        step([2 * grad for grad in grads], variables, learning_rate)

    variable = keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.SGD(0.5)
    compat.make_local(optimizer, update)
    optimizer.apply([tf.ones(2)], [variable])
    message = broken("Optimizer._backend_update_step", "compat.make_local")
    [(grads, variables, learning_rate)] = calls
    np.testing.assert_array_equal(grads[0], np.ones(2), message)
    assert variables[0] is variable and learning_rate == 0.5, message
    np.testing.assert_array_equal(variable, [0.0, 1.0], message)


@pytest.mark.parametrize(
    ("name", "expected"), [("Nadam", True), ("Adam", False)]
)
def test_whether_an_optimizer_has_a_step_of_all(compat, name, expected):
    """It is one's own `_backend_update_step`, which Nadam alone has."""
    optimizer = getattr(keras.optimizers, name)()
    message = broken("Optimizer._backend_update_step", "compat.has_step_of_all")
    assert compat.has_step_of_all(optimizer) is expected, message


def test_make_local_leaves_gradients_as_they_are(compat):
    optimizer = keras.optimizers.SGD()
    compat.make_local(optimizer, None)
    pairs = [(tf.ones(2), object()), (tf.zeros(3), object())]
    found = optimizer._all_reduce_sum_gradients(iter(pairs))
    assert all(f is p for f, p in zip(found, pairs, strict=True))


def test_an_optimizer_that_leaves_saving_saves_nothing(compat):
    optimizer = keras.optimizers.SGD()
    compat.leave_saving(optimizer)
    store = {}
    optimizer.save_own_variables(store)
    optimizer.load_own_variables(store)
    assert not store


def test_keras_sums_gradients_in_one_place(mirrored, monkeypatch):
    """Were they summed elsewhere, `make_local` would not prevent it."""
    message = broken("_all_reduce_sum_gradients", "compat.make_local")
    with mirrored.scope():
        weight = keras.Variable([1.0, 2.0])
        optimizer = keras.optimizers.SGD(0.25)
        optimizer.build([weight])
    summed = []

    def leave(grads_and_vars):
        summed.append(True)
        return list(grads_and_vars)

    optimizer._all_reduce_sum_gradients = leave

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.ones(2) * tf.cast(number + 1, "float32")], [weight])

    mirrored.run(replica)
    assert len(summed) == 2, message
    np.testing.assert_array_equal(
        [copy.numpy() for copy in weight._value.values],
        [[0.75, 1.75], [0.5, 1.5]],
        message,
    )


def test_keras_divides_the_loss_by_the_number_of_replicas(mirrored):
    """What the optimizers undo."""
    with mirrored.scope():
        loss = keras.losses.MeanSquaredError()
    values = mirrored.run(lambda: loss(tf.ones((4, 1)), tf.zeros((4, 1))))
    found = [float(v) for v in mirrored.experimental_local_results(values)]
    assert found == [0.5, 0.5], broken(
        "keras.src.losses.loss.scale_loss_for_distribution",
        f"{OPTIMIZERS}._own_scale",
    )


# Contexts.


def test_replicas_know_their_number(compat, mirrored):
    message = broken("get_current_replica_id_as_int", VARIABLES)
    with mirrored.scope():
        assert compat.current_replica_id() is None, message
    seen = []
    mirrored.run(lambda: seen.append(compat.current_replica_id()))
    assert seen == [0, 1], message
    with mirrored.scope():
        variable = tf.Variable(1.0)
    seen.clear()
    mirrored.extended.update(
        variable, lambda v: seen.append(compat.current_replica_id())
    )
    assert seen == [0, 1], message


def test_outside_of_any_strategy_no_replica_runs(compat):
    """TensorFlow has a default strategy, whose only replica always runs."""
    assert compat.current_replica_id() is None, broken(
        "get_current_replica_id_as_int", VARIABLES
    )
    assert tf.function(compat.current_replica_id)() is None


def test_replicas_know_their_strategy(compat, mirrored):
    other = tf.distribute.MirroredStrategy(["CPU:0"])
    seen = []
    mirrored.run(
        lambda: seen.append(
            (
                compat.in_replica_context(mirrored),
                compat.in_replica_context(other),
            )
        )
    )
    message = broken("ReplicaContext.strategy", "compat.in_replica_context")
    assert seen == [(True, False)] * 2, message
    assert not compat.in_replica_context(mirrored), message
    with mirrored.scope():
        assert not compat.in_replica_context(mirrored), message


def test_one_replicas_part(compat, mirrored):
    values = mirrored.run(
        lambda: tf.distribute.get_replica_context().replica_id_in_sync_group
    )
    for i in range(2):
        part = compat.select_replica(i, {"a": values, "b": 5})
        assert (int(part["a"]), part["b"]) == (i, 5), broken(
            "distribute_utils.select_replica", VARIABLES
        )


class Probe(tf.Module):
    """Notes what it is told when it is written."""

    def __init__(self, compat):
        super().__init__()
        self.seen = []
        self.compat = compat

    def _serialize_to_tensors(self):
        self.seen.append(
            (self.compat.is_exporting(), self.compat.is_single_copy_export())
        )
        return {"x": tf.constant(0.0)}

    def _restore_from_tensors(self, restored_tensors):
        return tf.no_op()


def test_what_is_in_a_checkpoint_is_told_as_it_is_restored(compat, tmp_path):
    class Teller(tf.__internal__.tracking.AutoTrackable):
        def __init__(self, names):
            self.names = names
            self.told = []

        def _serialize_to_tensors(self):
            self.told.append(compat.restored_from())
            return {name: tf.constant(0.0) for name in self.names}

        def _restore_from_tensors(self, restored_tensors):
            return tf.no_op()

    message = broken("CheckpointPosition", "compat.tell_what_is_restored")
    compat.tell_what_is_restored()
    compat.tell_what_is_restored()
    saved = Teller(["a", "b"])
    path = tf.train.Checkpoint(x=saved).save(str(tmp_path / "c"))
    assert set(saved.told) == {None}, message
    seen = []
    for _ in range(2):
        restored = tf.train.Checkpoint(x=Teller(["a"]), y=Teller(["a"]))
        restored.restore(path)
        [told] = [t for t in restored.x.told if t is not None]
        assert told.names == {"a", "b"}, message
        seen.append(told.restore)
    assert seen[0] != seen[1], message
    assert compat.restored_from() is None


def test_an_export_is_told_from_a_checkpoint(compat, tmp_path):
    message = broken("save_context.in_save_context", VARIABLES)
    probe = Probe(compat)
    tf.train.Checkpoint(probe=probe).write(str(tmp_path / "checkpoint"))
    assert probe.seen and set(probe.seen) == {(False, False)}, message
    probe.seen.clear()
    tf.saved_model.save(probe, str(tmp_path / "one"))
    assert (True, True) in probe.seen, message
    assert not compat.is_exporting(), message
    probe.seen.clear()
    tf.saved_model.save(
        probe,
        str(tmp_path / "all"),
        options=tf.saved_model.SaveOptions(
            experimental_variable_policy="expand_distributed_variables"
        ),
    )
    assert (True, False) in probe.seen, broken(
        "values_util.is_saving_non_distributed", VARIABLES
    )


def test_determinism_is_seen(compat):
    config = importlib.import_module("tensorflow.python.framework.config")
    message = broken("is_op_determinism_enabled", "compat.is_deterministic")
    before = compat.is_deterministic()
    try:
        tf.config.experimental.enable_op_determinism()
        assert compat.is_deterministic(), message
        config.disable_op_determinism()
        assert not compat.is_deterministic(), message
    finally:
        if before:
            tf.config.experimental.enable_op_determinism()


def test_errors_that_scopes_explain_are_told_from_others(compat, mirrored):
    """As TensorFlow and Keras raise them: see tests/scopes_test.py."""
    other = tf.distribute.MirroredStrategy(["CPU:2"])
    with mirrored.scope():
        with pytest.raises(RuntimeError) as mixed, other.scope():
            pass
        assert compat.mixes_strategies(mixed.value), STRATEGY
    assert not compat.mixes_strategies(RuntimeError("another"))


def test_functions_that_may_be_traced_often(compat, caplog):
    def warned(prepare):
        caplog.clear()
        for k in range(12):
            function = tf.function(lambda x: x + 1)
            prepare(function)
            function(tf.zeros([k + 1]))
        return "triggered tf.function retracing" in caplog.text

    assert not warned(compat.may_be_traced_often), STRATEGY
    assert warned(lambda function: None)


def test_code_of_the_package_is_run_as_it_is_written(compat):
    from tensorflow.python.autograph.impl import conversion

    run = strategies.ElasticMirroredStrategy.run
    compat.is_as_written("tf_elastic")
    compat.is_as_written("tf_elastic")
    assert conversion.is_allowlisted(run), STRATEGY
    assert not conversion.is_allowlisted(lambda: None)  # of the user's
    rules = list(map(str, conversion.config.CONVERSION_RULES))
    assert sum(rule.endswith(" tf_elastic") for rule in rules) == 1


def test_a_mean_is_told_from_other_reductions(compat):
    reduce_op = tf.distribute.ReduceOp
    for mean in ("mean", "MEAN", reduce_op.MEAN):
        assert compat.is_mean(mean)
    for other in ("sum", reduce_op.SUM, None, "average"):
        assert not compat.is_mean(other)


def test_the_first_of_slices_that_have_no_mean(compat, mirrored):
    def slices(*parts):
        return mirrored.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    message = broken("values.PerReplica", f"{STRATEGY}.reduce")
    ragged = tf.ragged.constant([[1], [2, 3]])
    for parts in (
        (tf.ones((3, 2)), tf.ones((1, 2))),
        (tf.constant(True), tf.constant(False)),
        (tf.constant("a"), tf.constant("b")),
        (ragged, ragged),
        (tf.sparse.from_dense([1, 0]), tf.sparse.from_dense([0, 2])),
    ):
        assert compat.first_if_no_mean(slices(*parts)) is parts[0], message
    for value in (slices(tf.ones(2), tf.zeros(2)), 7, None, ragged):
        assert compat.first_if_no_mean(value) is value, message


# Versions.


@pytest.mark.parametrize(
    ("module", "version"),
    [
        *((tf, v) for v in ("2.18.0", "2.19.1", "2.21.0", "2.21.0-rc1")),
        *((keras, v) for v in ("3.11.0", "3.15.1")),
    ],
)
def test_a_supported_version_passes(compat, monkeypatch, module, version):
    monkeypatch.setattr(module, "__version__", version)
    compat.supported.check_versions()


@pytest.mark.parametrize(
    ("module", "version"),
    [
        *((tf, v) for v in ("2.9.3", "2.17.1", "2.22.0", "3.0.0")),
        *((keras, v) for v in ("2.15.0", "3.10.0", "3.16.0", "4.0.0.dev1")),
    ],
)
def test_another_version_is_refused(compat, monkeypatch, module, version):
    supported = compat.supported
    name, package, (first, last) = (
        ("TensorFlow", "tensorflow", supported.SUPPORTED_TENSORFLOW)
        if module is tf
        else ("Keras", "keras", supported.SUPPORTED_KERAS)
    )
    monkeypatch.setattr(module, "__version__", version)
    with pytest.raises(supported.UnsupportedVersionError) as error:
        supported.check_versions()
    assert isinstance(error.value, ImportError)
    told = str(error.value)
    assert f"{name} {first} to {last}. Received: {package}=={version}." in told
    assert f"pip install '{package}>={first},<={last}.*'" in told


def test_it_is_refused_before_anything_private_is_named():
    """By a Keras that says it is another, in a process of its own."""
    code = (
        "import sys, keras; keras.__version__ = '3.16.0'\n"
        "for name in [n for n in sys.modules if 'mirrored_strategy' in n]:\n"
        "    sys.modules[name] = None\n"
        "try:\n"
        "    import tf_elastic.strategies\n"
        "except ImportError as error:\n"
        "    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source_tree.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "UnsupportedVersionError: " in ended.stderr, ended.stderr
    assert "keras==3.16.0" in ended.stderr


def test_what_is_declared_is_what_is_supported(compat):
    """The same bounds in setup.cfg and in the documents."""
    supported = compat.supported
    declared = configparser.ConfigParser()
    declared.read(source_tree.ROOT / "setup.cfg", encoding="utf-8")
    required = declared["options"]["install_requires"].split()
    sentence = []
    for name, (first, last) in (
        ("TensorFlow", supported.SUPPORTED_TENSORFLOW),
        ("Keras", supported.SUPPORTED_KERAS),
    ):
        major, minor = last.split(".")
        above = f"{major}.{int(minor) + 1}"
        assert f"{name.lower()}>={first},<{above}" in required
        sentence.append(f"{name} {first} to {last}")
    for path in ("README.md", "docs/limits.md"):
        text = (source_tree.ROOT / path).read_text(encoding="utf-8")
        assert " with ".join(sentence) in " ".join(text.split()), path


# Collectives of several workers.

MULTI_WORKER = "strategies.MultiWorkerMirroredStrategy"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            "__init__",
            [
                "container_strategy",
                "cluster_resolver",
                "communication_options",
            ],
        ),
        ("_initialize_local", ["cluster_resolver", "devices"]),
        ("_initialize_multi_worker", ["cluster_resolver"]),
    ],
)
def test_the_extended_of_several_workers(compat, method, expected):
    function = getattr(compat.MultiWorkerExtended, method, None)
    message = broken(f"CollectiveAllReduceExtended.{method}", MULTI_WORKER)
    assert callable(function), message
    parameters = list(inspect.signature(function).parameters)[1:]
    assert parameters[: len(expected)] == expected, message


class OwnKeys(strategies.MultiWorkerMirroredStrategy):
    """Collectives' keys are those of the process; these no other test uses."""

    _collective_key_base = 7000


@pytest.fixture(scope="module")
def collective():
    """A strategy with collectives, on two devices of this process."""
    return OwnKeys._from_local_devices(["CPU:0", "CPU:1"])


def test_all_collectives_are_nested_ones(compat, collective):
    extended = collective.extended
    message = broken("CollectiveAllReduce._launchers", MULTI_WORKER)
    for operations in (
        extended._cross_device_ops,
        extended._host_cross_device_ops,
    ):
        assert operations._launchers, message
        for launcher in operations._launchers:
            assert type(launcher) is compat.NestedLauncher, message


@pytest.mark.parametrize("wrapper", ["none", "loop", "branch", "both"])
def test_a_collective_may_be_called_from(collective, wrapper):
    """In a function that is called from a loop or branch of another."""

    @tf.function
    def one_step(x):
        return collective.reduce(
            "SUM", collective.run(lambda y: y + 1.0, args=(x,)), axis=None
        )

    def branch(x):
        return tf.cond(x < 1e6, lambda: one_step(x), lambda: x)

    def loop(function):
        return lambda x: tf.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, function(y)), (0, x)
        )[1]

    function, expected = {
        "none": (one_step, 4.0),
        "loop": (loop(one_step), 22.0),
        "branch": (branch, 4.0),
        "both": (loop(branch), 22.0),
    }[wrapper]
    outer = tf.function(function)
    message = broken(
        "CollectiveReplicaLauncher._next_instance_key", MULTI_WORKER
    )
    for _ in range(2):  # each call has keys of its own
        assert float(outer(tf.constant(1.0))) == expected, message


class CountedKeys(strategies.MultiWorkerMirroredStrategy):
    """The same, for the next test."""

    _collective_key_base = 8000


def test_collectives_are_counted_as_they_run(compat):
    """Not those that a call has not come to, in a loop of its own or not."""
    extended = CountedKeys._from_local_devices(["CPU:0"]).extended
    compat.count_collectives(extended)
    message = broken("CollectiveReplicaLauncher", MULTI_WORKER)
    [launcher] = extended._host_cross_device_ops._launchers
    assert type(launcher).__name__ == "CountedLauncher", message
    sums = compat.host_sums(extended)

    @tf.function
    def loop(count):
        [done] = tf.while_loop(
            lambda k: k < count,
            lambda k: k + compat.sum_on_hosts(extended, tf.ones_like(k)),
            [0],
        )
        with tf.control_dependencies([done]):
            few = tf.debugging.assert_less(count, 5)
        with tf.control_dependencies([few]):
            return compat.sum_on_hosts(extended, count)

    assert int(loop(tf.constant(3))) == 3, message
    assert int(launcher.count) == 4, message
    with pytest.raises(tf.errors.InvalidArgumentError):
        loop(tf.constant(5))
    assert int(launcher.count) == 9, message
    assert sums(tf.constant([2, 7])).numpy().tolist() == [2, 7], message
    assert int(launcher.count) == 9, message


def test_whether_a_server_of_collectives_is_there(compat):
    message = broken("Context._collective_ops_server_def", MULTI_WORKER)
    assert compat.has_collective_server() is False, message


def test_the_coordination_service_is_configured_once(compat, monkeypatch):
    calls = []
    context = types.SimpleNamespace(
        coordination_service=None,
        configure_coordination_service=lambda **kwargs: calls.append(kwargs),
    )
    monkeypatch.setattr(
        compat.collectives.tf_context, "context", lambda: context
    )

    def configure(task_type):
        compat.configure_coordination(
            tf.distribute.cluster_resolver.SimpleClusterResolver(
                tf.train.ClusterSpec(
                    {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
                ),
                task_type=task_type,
                task_id=0,
            ),
            startup_timeout_s=2.5,
            peer_timeout_s=3.0,
            shutdown_timeout_s=4.0,
        )

    configure("evaluator")
    assert not calls
    configure("worker")
    context.coordination_service = object()
    configure("worker")
    [call] = calls
    assert call["cluster_register_timeout_in_ms"] == 2500
    assert call["heartbeat_timeout_in_ms"] == 3000
    assert call["shutdown_barrier_timeout_in_ms"] == 4000
    assert call["service_leader"] == "/job:chief/replica:0/task:0"
    jobs = [(job.name, job.num_tasks) for job in call["coordinated_jobs"]]
    assert jobs == [("chief", 1), ("worker", 2)]


def test_what_configures_the_coordination_service():
    context = importlib.import_module("tensorflow.python.eager.context")
    message = broken("Context.configure_coordination_service", MULTI_WORKER)
    parameters = inspect.signature(
        context.Context.configure_coordination_service
    ).parameters
    assert {
        "service_type",
        "service_leader",
        "cluster_register_timeout_in_ms",
        "heartbeat_timeout_in_ms",
        "shutdown_barrier_timeout_in_ms",
        "coordinated_jobs",
    } <= set(parameters), message
    assert isinstance(context.Context.coordination_service, property), message


def test_backups_are_left_alone_without_workers(compat, tmp_path):
    """The callback is Keras' own for any other strategy."""
    compat.share_backups()
    before = keras.callbacks.BackupAndRestore._save_model
    compat.share_backups()
    message = broken("keras.callbacks.BackupAndRestore", "compat.share_backups")
    assert keras.callbacks.BackupAndRestore._save_model is before, message
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = keras.callbacks.BackupAndRestore(
        tmp_path / "backup", delete_checkpoint=False
    )
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    assert (tmp_path / "backup" / "training_metadata.json").exists(), message
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(epoch)
    )
    model.fit(x, y, epochs=3, verbose=0, callbacks=[callback, note])
    assert seen == [2], message
