"""What the golden traces train, and what is noted of it after each step.

The model is a linear one with a statistic of its own, in float64 and without
XLA. Each worker has data of its own, learning rates fall with the worker's
clock, the period is 2, and 3 workers (2 in a cluster) are no power of two and
not alone. So an exchange that is earlier or later, in another order, with
another share, or by another staleness gives other numbers.
"""

import concurrent.futures
import json
import math
import pathlib

import keras
import numpy as np
import tensorflow as tf

from tests.conformance_cluster_support import Cluster
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers import registry

FOLDER = pathlib.Path(__file__).parent / "golden"
STEPS = 7  # of each worker: in the end a period is half over
TOLERANCE = 1e-13  # of the largest number of a variable, at any step
N = 3
ROWS = 2  # of a worker's batch
# Whose turn it is in a cluster. One may come again before the other has come.
TURNS = (0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0, 1)

_GENERATOR = np.random.default_rng(20160501)
_INITIAL = np.array([0.7, -1.1, 1.9])
_X = _GENERATOR.normal(size=(3, STEPS, ROWS, N))
_Y = _GENERATOR.normal(size=(3, STEPS, ROWS))


class Linear(keras.Model):
    """y = x w, less the mean of what it was, which is a statistic."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(N,), name="w")
        self.mean = self.add_weight(
            shape=(1,), initializer="zeros", trainable=False, name="mean"
        )

    def call(self, inputs, training=False):
        y = tf.linalg.matvec(inputs, tf.convert_to_tensor(self.w))
        mean = tf.convert_to_tensor(self.mean)
        if training:
            mean += 0.5 * (tf.reduce_mean(y, keepdims=True) - mean)
            self.mean.assign(mean)
        return y - mean


class Drift(optimizers.ElasticOptimizer):
    """Somebody's own local step: gradient descent with a decay of weights."""

    def update_step(self, gradient, variable, learning_rate):
        rate = tf.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * (gradient + 0.1 * variable))


def _decay(learning_rate=0.1):
    return optimizers.schedules.InverseSqrtDecay(learning_rate, decay=0.5)


def _alone(cls, learning_rate=0.1, **options):
    return lambda: cls(_decay(learning_rate), jit_compile=False, **options)


def _around(cls, inner, **options):
    return lambda: cls(
        inner(), communication_period=2, jit_compile=False, **options
    )


def _sgd():
    return keras.optimizers.SGD(_decay(), momentum=0.7)


def _adam():
    return keras.optimizers.Adam(_decay(), beta_1=0.8, epsilon=1e-3)


# Of beta > 1 statistics take 1; with EAMSGD's they take 0.9.
CASES = {
    "EASGD": _alone(optimizers.EASGD, beta=1.2, communication_period=2),
    "EAMSGD": _alone(optimizers.EAMSGD, momentum=0.7, communication_period=2),
    "Elastic": _around(optimizers.Elastic, _adam, beta=0.8),
    "ElasticOptimizer": _alone(
        Drift,
        moving_rate=0.2,
        beta=0.5,
        symmetric=False,
        communication_period=2,
    ),
    "AveragedSGD": _alone(optimizers.AveragedSGD),
    "MovingAverageSGD": _alone(optimizers.MovingAverageSGD, averaging_rate=0.3),
    "Downpour": _alone(optimizers.Downpour, communication_period=2),
    "ADownpour": _alone(optimizers.ADownpour, communication_period=2),
    "MVADownpour": _alone(
        optimizers.MVADownpour, averaging_rate=0.3, communication_period=2
    ),
    "MDownpour": _alone(optimizers.MDownpour, 0.02, momentum=0.7),
    "AsyncMSGD": _alone(
        optimizers.AsyncMSGD,
        0.04,
        momentum=0.5,
        adjustment="inverse_sqrt",
        staleness_scaling=True,
        delay_compensation=0.2,
    ),
    "SyncSGD": _alone(optimizers.SyncSGD, 0.04, momentum=0.5),
    "LocalSGD": _around(optimizers.LocalSGD, _sgd),
    "DiLoCo": _around(
        optimizers.DiLoCo, _sgd, outer_learning_rate=0.5, outer_momentum=0.8
    ),
    "AsyncDiLoCo": _around(
        optimizers.AsyncDiLoCo,
        _sgd,
        outer_learning_rate=0.5,
        outer_momentum=0.8,
        momentum_delay=2,
        momentum_activation=0.2,
    ),
    "HeLoCo": _around(
        optimizers.HeLoCo, _sgd, outer_learning_rate=0.5, outer_momentum=0.8
    ),
    "HALoS": _around(
        optimizers.HALoS,
        _sgd,
        outer_learning_rate=0.5,
        outer_momentum=0.8,
        momentum_delay=3,
    ),
    "ADMM": _alone(optimizers.ADMM, elasticity=1.5, communication_period=2),
}


def num_workers(method, most):
    """One worker, for a method that is for one; else `most`."""
    return 1 if registry.named(method).one_worker else most


def choices(kind):
    """(method, order) of "orders", (method, protocol) of "protocols"."""
    base = registry.of_class(optimizers.ElasticOptimizer)
    return [
        (method.name, choice)
        for method in (base, *registry.listed())
        for choice in getattr(method, kind)
    ]


# Traces.


def trace(kind, method, choice):
    """{variable: its values after every step, in a cluster every turn}."""
    keras.utils.set_random_seed(1)
    of = {"orders": _on_devices, "protocols": _in_cluster}[kind]
    rows = list(of(method, choice))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _model(method, strategy):
    with strategy.scope():
        model = Linear(name="model")
        model.build((None, N))
        model.w.assign(_INITIAL)
        model.compile(CASES[method](), loss="mse")
        model.optimizer.build(model.trainable_variables)
    return model


def _on_devices(method, order):
    p = num_workers(method, 3)
    model = _model(
        method,
        strategies.ElasticMirroredStrategy(
            [f"CPU:{i}" for i in range(p)], order, closing=False
        ),
    )

    for step in range(STEPS):
        model.train_on_batch(
            np.concatenate(_X[:p, step]), np.concatenate(_Y[:p, step])
        )
        row = {
            f"workers' {name}": values
            for name, values in _of_workers(model).items()
        }
        for variable in model.variables:
            center = compat.native_variable(variable).numpy()
            row[f"center's {variable.name}"] = center
        yield row


def _of_workers(model):
    """What the workers hold, and how far they are."""
    own = {"step": model.optimizer.iterations}
    own |= {"center step": model.optimizer.center_step}
    own |= {
        variable.path.rpartition("/")[2].removeprefix("model_"): variable
        for variable in model.optimizer.variables
        if tuple(variable.shape) == (N,)
    }
    own |= {variable.name: variable for variable in model.variables}
    return {
        name: compat.native_variable(variable).worker_values()
        for name, variable in own.items()
    }


def _in_cluster(method, protocol):
    servers = Cluster()
    try:
        p = num_workers(method, 2)
        models = [
            _model(method, servers.strategy(protocol, i, p)) for i in range(p)
        ]
        if protocol == "synchronous":
            yield from _together(models, servers)
        else:
            yield from _in_turn(models, servers)
    finally:
        servers.close()


def _in_turn(models, servers):
    """Rows of workers that come one after the other."""
    clocks = [0] * len(models)
    for i in [i for i in TURNS if i < len(models)]:
        _step(models[i], i, clocks[i])
        clocks[i] += 1
        yield _of_all(models, servers)


def _together(models, servers):
    """Rows of workers that meet. At the first step there is nothing to give.

    That one is taken in turn, so that graphs are traced one after the other.
    """
    with concurrent.futures.ThreadPoolExecutor(len(models)) as pool:
        for clock in range(STEPS):
            steps = [
                pool.submit(_step, model, i, clock)
                if clock
                else _step(model, i, clock)
                for i, model in enumerate(models)
            ]
            if clock:
                for step in steps:
                    step.result(timeout=120)
            yield _of_all(models, servers)


def _step(model, i, clock):
    model.train_on_batch(_X[i, clock], _Y[i, clock])
    exchanger = model.distribute_strategy.extended.sessions[0].exchanger
    if exchanger.in_flight:
        # Only so that the center has it before the other one's turn.
        exchanger._pending.result(timeout=60)


def _of_all(models, servers):
    row = {
        f"worker {i}'s {name}": values[0]
        for i, model in enumerate(models)
        for name, values in _of_workers(model).items()
    }
    for shard in servers.shards:
        state, arrays = shard.snapshot()
        # Of a section as this server has it, the center's and what it keeps.
        sections = shard.state.layout.sections
        names = [
            f"center {shard.index}'s {kept} of {section.role}"
            for kept in ("values", *state["slots"][1:])
            for section in sections
        ]
        row |= {
            name: array
            for name, array in zip(names, arrays, strict=True)
            if array.size
        }
        row[f"center {shard.index}'s version"] = np.array(shard.version)
    return row


# Files. Of each trace a table whose rows are steps (of a cluster, turns), and
# which columns are a variable's.


def stored(kind):
    """{"method, choice": {variable: rows}}, as they were written."""
    path = FOLDER / f"{kind}.npz"
    if not path.exists():
        return {}
    found = {}
    with np.load(path, allow_pickle=False) as file:
        for case, shapes in json.loads(str(file["shapes"])).items():
            ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
            found[case] = {
                name: columns.reshape(len(columns), *shape)
                for (name, shape), columns in zip(
                    shapes.items(),
                    np.split(file[case], ends[:-1], axis=1),
                    strict=True,
                )
            }
    return found


def write(kind):
    """Writes the traces of one kind; those that are as stored stay the same.

    Returns:
        The cases that are not.
    """
    old, new = stored(kind), {}
    for method, choice in choices(kind):
        case = f"{method}, {choice}"
        found = trace(kind, method, choice)
        same = not differences(found, old.get(case, {}))
        new[case] = old[case] if same else found
    changed = [case for case in new if new[case] is not old.get(case)]
    if changed or new.keys() != old.keys():
        FOLDER.mkdir(exist_ok=True)
        shapes = {
            case: {name: rows.shape[1:] for name, rows in found.items()}
            for case, found in new.items()
        }
        tables = {
            case: np.concatenate(
                [rows.reshape(len(rows), -1) for rows in found.values()], 1
            )
            for case, found in new.items()
        }
        np.savez_compressed(
            FOLDER / f"{kind}.npz", shapes=json.dumps(shapes), **tables
        )
    return changed


def differences(found, expected):
    """Of each variable that is not as expected a line, the first step first.

    Variables go by their names: if one is but called otherwise, its old name
    is in the file.
    """
    lines = [
        (0, f"{name} is {'new' if name in found else 'missing'}")
        for name in sorted(found.keys() ^ expected.keys())
    ]
    for name in sorted(found.keys() & expected.keys()):
        new, old = found[name], expected[name]
        if new.shape != old.shape:
            lines.append((0, f"{name} is {new.shape}, was {old.shape}"))
            continue
        size = np.max(np.abs(old), initial=0.0) or 1.0
        away = np.abs(new - old).reshape(len(old), -1).max(axis=1) / size
        wrong = ~(away <= TOLERANCE)  # or it is no number
        if wrong.any():
            step = int(np.argmax(wrong)) + 1
            lines.append(
                (step, f"step {step}: {name} is away by {away.max():.1e}")
            )
    return [line for _, line in sorted(lines)]
