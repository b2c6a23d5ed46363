"""Keras' training: its steps, its first batch, its backups."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.util import tf_decorator

from tf_elastic.compat.contexts import select_replica
from tf_elastic.compat.rows import part_spec
from tf_elastic.compat.rows import split_rows


def is_keras_step(function: Callable[..., Any]) -> bool:
    """Whether a function is what `fit`, `evaluate` or `predict` run.

    Relies on `Trainer.train_step` and `test_step` being handed to
    `strategy.run` as they are, and on the name of the function that
    `make_predict_function` hands over.
    """
    if is_train_step(function) or _is_method(function, "test_step"):
        return True
    inner = inspect.unwrap(tf_decorator.unwrap(function)[1])
    return getattr(inner, "__qualname__", "").startswith(
        "TensorFlowTrainer.make_predict_function."
    )


def is_train_step(function: Callable[..., Any]) -> bool:
    """Whether a function is a Keras model's `train_step`."""
    return _is_method(function, "train_step")


def _is_method(function: Any, name: str) -> bool:
    return (
        isinstance(getattr(function, "__self__", None), keras.Model)
        and getattr(function, "__name__", None) == name
    )


def at_end_of(
    optimizer: keras.optimizers.Optimizer, then: Callable[[], None]
) -> None:
    """Has something done after Keras has ended an optimizer.

    Relies on `fit` calling `finalize_variable_values` of the one that
    `compile` has got, at its end.
    """
    end = optimizer.finalize_variable_values

    def end_all(var_list: Any) -> None:
        end(var_list)
        then()

    optimizer.finalize_variable_values = end_all


def build_by_specification() -> None:
    """Makes Keras build models of our strategies without a pass over data.

    Before `fit` and `evaluate` Keras takes a first batch to learn its shape,
    then begins anew. Data that cannot begin anew, a Python generator's, has
    lost by then what was read ahead. What is to be learned stands in the
    specification of the data set. A model that cannot be built so (it has no
    `call`, or one that is not called with the data as it is, since its training
    step is its own) is not: the step makes what it needs, or says what is
    wrong, as without a strategy. For other strategies nothing changes. Done
    once for a process.

    Relies on `TensorFlowTrainer._maybe_symbolic_build(iterator, data_batch)`
    and on `TFEpochIterator._distributed_dataset`.
    """
    original = keras.Model._maybe_symbolic_build
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        extended = getattr(self.distribute_strategy, "extended", None)
        is_ours = getattr(extended, "is_elastic", False)
        if is_ours and type(self).call is keras.Model.call:
            return
        dataset = getattr(iterator, "_distributed_dataset", None)
        whole = getattr(dataset, "whole", None)
        if whole is not None:
            iterator = None
            replicas = self.distribute_strategy.num_replicas_in_sync
            data_batch = _symbolic_batch(whole, replicas)
        try:
            original(self, iterator=iterator, data_batch=data_batch)
        except RuntimeError as error:
            if not (is_ours and "Unable to automatically build" in str(error)):
                raise

    keras.Model._maybe_symbolic_build = build


def _symbolic_batch(dataset: tf.data.Dataset, replicas: int) -> Any:
    """What has the shapes and dtypes of the first replica's part of a batch."""
    spec = dataset.element_spec
    if all(_has_shape(leaf) for leaf in tf.nest.flatten(spec)):
        return tf.nest.map_structure(
            lambda leaf: (
                None if _is_optional(leaf) else part_spec(leaf, 0, replicas)
            ),
            spec,
        )
    first = split_rows(next(iter(dataset.take(1))), replicas)
    return select_replica(0, first)


def _has_shape(spec: Any) -> bool:
    return _is_optional(spec) or (
        isinstance(
            spec, (tf.TensorSpec, tf.RaggedTensorSpec, tf.SparseTensorSpec)
        )
        and spec.shape.rank is not None
    )


def _is_optional(spec: Any) -> bool:
    return isinstance(spec, tf.OptionalSpec)


def share_backups() -> None:
    """Makes `keras.callbacks.BackupAndRestore` right for several workers.

    Keras' lets each worker write and read for itself: to one folder they write
    over each other, and workers that find different epochs there never meet.
    For a model whose strategy `shares_backups`, only the chief touches the
    files, and what it has restored goes to all. For other models nothing
    changes. Done once for a process.

    Relies on the callback's `on_train_begin`, `_save_model`, `on_train_end`
    and on `model._initial_epoch`.
    """
    callback = keras.callbacks.BackupAndRestore
    if not hasattr(callback._save_model, "__wrapped__"):
        callback.on_train_begin = _restored_by_all(callback.on_train_begin)
        callback._save_model = _by_chief(callback._save_model)
        callback.on_train_end = _by_chief(callback.on_train_end)


def _by_chief(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def by_chief(self: Any, *args: Any, **kwargs: Any) -> None:
        strategy = self.model.distribute_strategy
        if not getattr(strategy, "shares_backups", False) or strategy.is_chief:
            method(self, *args, **kwargs)

    return by_chief


def _restored_by_all(method: Callable[..., None]) -> Callable[..., None]:
    restore = _by_chief(method)

    @functools.wraps(method)
    def restored_by_all(self: Any, *args: Any, **kwargs: Any) -> None:
        restore(self, *args, **kwargs)
        model = self.model
        strategy = model.distribute_strategy
        if not getattr(strategy, "shares_backups", False):
            return
        epoch = -1 if model._initial_epoch is None else model._initial_epoch
        initial_epoch = int(strategy.from_chief(epoch))
        if initial_epoch < 0:
            return  # nothing was there to restore
        model._initial_epoch = initial_epoch
        variables = list(model.variables)
        if model.optimizer is not None:
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            variables += model.optimizer.variables
        for variable in variables:
            variable.assign(strategy.from_chief(variable))

    return restored_by_all
