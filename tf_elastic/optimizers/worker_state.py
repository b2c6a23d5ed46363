"""What an optimizer adds to a Keras file: the state of every worker.

A model's layers save the center. So that training can go on to the bit, the
optimizer's part of the file holds for every worker: its parameters, its
untrained model variables (statistics, seeds) and the optimizer's own
variables. It also holds the centers that these belong to: the layers have the
last word on what the center is, see `strategies.resuming`.
"""

import json
import warnings
from collections.abc import Callable
from collections.abc import MutableMapping
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import compat

_FORMAT = 1
_WORKERS = "num_workers"
_KINDS = "untrained.kinds"

# Arrays and scalars by name, in a file.
Store = MutableMapping[str, np.ndarray | np.generic]


class CheckpointWarning(UserWarning):
    """A file was loaded, but not everything in it could be used."""


def save(optimizer: keras.optimizers.Optimizer, store: Store) -> None:
    """Writes the workers' state.

    Args:
        optimizer: an `ElasticOptimizer`.
        store: a mapping from names to arrays, as Keras hands it out.
    """
    store["format"] = np.int64(_FORMAT)
    own = [compat.native_variable(v) for v in optimizer.variables]
    if not optimizer.is_elastic:
        for k, variable in enumerate(own):
            store[f"variable.{k}"] = variable.numpy()
        return
    store[_WORKERS] = np.int64(_num_held(optimizer))
    for k, variable in enumerate(own):
        store[f"variable.{k}"] = variable.worker_values()
    held = {}
    closing = optimizer.closing
    if closing is not None and bool(closing.is_closed.numpy()):
        held = closing.held_by_variable()
    for kind, variables in _model_variables(optimizer).items():
        for k, variable in enumerate(variables):
            store[f"{kind}.{k}"] = variable.worker_values()
            store[f"{kind}.{k}.center"] = variable.numpy()
            if variable.store.masters:
                exact = variable.store.read_center(0).numpy()
                store[f"{kind}.{k}.master"] = exact
            if id(variable) in held:
                store[f"{kind}.{k}.held"] = held[id(variable)].numpy()
    if optimizer._exchange.under_way is not None:
        for name, value in optimizer._exchange.under_way.values().items():
            store[name] = value  # The store of a file has no `update`.
    kinds = json.dumps([_kind_of(v) for v in optimizer._untrained_variables])
    store[_KINDS] = np.frombuffer(kinds.encode(), np.uint8)


def load(optimizer: keras.optimizers.Optimizer, store: Store) -> None:
    """Reads the workers' state back.

    With another number of workers than the file's, every worker starts from
    the center, with zero velocity and the first worker's clock.

    Args:
        optimizer: an `ElasticOptimizer`, built.
        store: as given to `save`.

    Warns:
        CheckpointWarning: the file is of another optimizer or number of
            workers, or the model's untrained variables are not those of the
            file; what that means for the workers is in the message.
    """
    own = [compat.native_variable(v) for v in optimizer.variables]
    names = set(store.keys())
    expected = sum(name.startswith("variable.") for name in names)
    if "format" not in names or expected != len(own):
        warnings.warn(
            f"The file holds {expected} variables of an elastic optimizer, "
            f"{type(optimizer).__name__} has {len(own)} (if it is not built "
            "yet, train a step or call `optimizer.build` before loading): the "
            "optimizer starts anew, and all workers start from the center.",
            CheckpointWarning,
            stacklevel=2,
        )
        return
    saved_workers = int(np.asarray(store[_WORKERS])) if _WORKERS in names else 0
    if not optimizer.is_elastic:
        for k, variable in enumerate(own):
            value = np.asarray(store[f"variable.{k}"])
            variable.assign(value[0] if saved_workers else value)
        return
    num_workers = _num_held(optimizer)
    if saved_workers != num_workers:
        warnings.warn(
            f"The file holds {saved_workers} workers, the strategy has "
            f"{num_workers}: all workers start from the center.",
            CheckpointWarning,
            stacklevel=2,
        )
        for k, variable in enumerate(own):
            value = np.asarray(store[f"variable.{k}"])
            is_clock = variable.shape.rank == 0 and not variable.follows
            if saved_workers and is_clock:
                variable.assign(value[0])
        for variable in _model_variables(optimizer)["trained"]:
            variable.stop_moving(variable.numpy())
        return
    followers = _followers_of(optimizer)
    # What is set with a variable: how, and to what.
    waiting: dict[int, list[tuple[Callable[..., object], np.ndarray]]] = {}
    if optimizer._exchange.under_way is not None:
        # First of all, since it says whose turn it is.
        waiting = optimizer._exchange.under_way.resume(
            {name: np.asarray(store[name]) for name in names}
        )
    for k, variable in enumerate(own):
        values = np.asarray(store[f"variable.{k}"])
        if id(variable) in followers:
            leader = id(followers[id(variable)])
            waiting.setdefault(leader, []).append(
                (variable.assign_worker_values, values)
            )
        else:
            variable.assign_worker_values(values)
    closing = optimizer.closing
    held = {} if closing is None else closing.held_by_variable()
    if closing is not None:
        closing.is_closed.assign(any(n.endswith(".held") for n in names))
    for kind, variables in _model_variables(optimizer).items():
        pairs = _pairs(store, names, kind, variables)
        if pairs is None:
            warnings.warn(
                f"The file's {kind} variables are not those of this model: "
                "the workers keep what the layers have loaded.",
                CheckpointWarning,
                stacklevel=2,
            )
            continue
        for k, variable in pairs:
            if variable.store.masters and f"{kind}.{k}.master" in names:
                exact = np.asarray(store[f"{kind}.{k}.master"])
                waiting.setdefault(id(variable), []).append(
                    (variable.store.set_center, exact)
                )
            if id(variable) in held and f"{kind}.{k}.held" in names:
                center = np.asarray(store[f"{kind}.{k}.held"])
                waiting.setdefault(id(variable), []).append(
                    (held[id(variable)].assign, center)
                )
            variable.resume(
                np.asarray(store[f"{kind}.{k}.center"]),
                np.asarray(store[f"{kind}.{k}"]),
                waiting.get(id(variable), ()),
            )


def _num_held(optimizer: keras.optimizers.Optimizer) -> int:
    """How many workers' values this process has of each variable."""
    return compat.native_variable(optimizer.iterations).store.num_workers


def _model_variables(
    optimizer: keras.optimizers.Optimizer,
) -> dict[str, Sequence[tf.Variable]]:
    return {
        "trained": [
            compat.native_variable(v) for v in optimizer._trainable_variables
        ],
        "untrained": list(optimizer._untrained_variables),
    }


def _followers_of(
    optimizer: keras.optimizers.Optimizer,
) -> dict[int, tf.Variable]:
    """The model's variable that each of the optimizer's begins anew with."""
    return {
        id(follower): variable
        for variables in _model_variables(optimizer).values()
        for variable in variables
        for follower in variable.followers
    }


def _kind_of(variable: tf.Variable) -> str:
    """What a variable is in its layer, such as "moving_mean"."""
    return variable.name.split("/")[-1].split(":")[0]


def _pairs(
    store: Store, names: set[str], kind: str, variables: Sequence[tf.Variable]
) -> list[tuple[int, tf.Variable]] | None:
    """The file's number of each variable; None if they are not the same.

    A strategy knows the untrained variables of all models in its scope, the
    older first, and one that is loaded is the youngest. So of each kind the
    youngest belong together, if there are more in the scope or in the file.
    """
    saved = [k for k in range(len(names)) if f"{kind}.{k}.center" in names]
    if len(saved) == len(variables):
        pairs = list(zip(saved, variables, strict=True))
    elif kind == "untrained" and _KINDS in names:
        kinds = json.loads(bytes(np.asarray(store[_KINDS])))
        numbers: dict[str, list[int]] = {}
        for k in saved:
            numbers.setdefault(kinds[k], []).append(k)
        pairs = []
        for variable in reversed(variables):
            left = numbers.get(_kind_of(variable))
            if left:
                pairs.append((left.pop(), variable))
        if len(pairs) < min(len(saved), len(variables)):
            return None
    else:
        return None
    for k, variable in pairs:
        shape = np.asarray(store[f"{kind}.{k}.center"]).shape
        if shape != tuple(variable.shape):
            return None
    return pairs
