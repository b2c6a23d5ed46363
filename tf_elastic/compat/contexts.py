"""Where code runs: on a tape, in a graph, in a replica, in an export."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.autograph.core import config as autograph
from tensorflow.python.autograph.core import config_lib as autograph_rules
from tensorflow.python.distribute import device_util
from tensorflow.python.distribute import distribute_utils
from tensorflow.python.distribute import mirrored_strategy
from tensorflow.python.distribute import values
from tensorflow.python.distribute import values_util
from tensorflow.python.eager.polymorphic_function import (
    polymorphic_function as def_function,
)
from tensorflow.python.framework import config as tf_config
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util
from tensorflow.python.ops import variables
from tensorflow.python.saved_model import save_context

MirroredExtended = mirrored_strategy.MirroredExtended
MirroredVariable = values.MirroredVariable
SyncOnReadVariable = values.SyncOnReadVariable


def tape_is_active() -> bool:
    """Whether a gradient tape is open on this thread.

    `tf.recompute_grad` and `tf.custom_gradient` pause all recording around a
    forward pass, with a tape or without one. So a pause is lifted to see.
    """
    paused = pywrap_tfe.TFE_Py_TapeSetIsStopped()
    if paused:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        return not pywrap_tfe.TFE_Py_TapeSetIsEmpty()
    finally:
        if paused:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()


def in_compiled_graph() -> bool:
    """Whether the graph being built is to be compiled by XLA as a whole."""
    return control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph())


def canonical_device(device: str) -> str:
    """The full name of a device, however it was spelled."""
    return device_util.canonicalize(device_util.resolve(device))


def current_replica_id() -> int | None:
    """The replica whose code or update runs now, or None outside of one."""
    if not tf.distribute.has_strategy():
        return None  # where TensorFlow's default strategy would say 0
    return values_util.get_current_replica_id_as_int()


def in_replica_context(strategy: tf.distribute.Strategy) -> bool:
    """Whether code of one replica of `strategy` runs now."""
    context = tf.distribute.get_replica_context()
    return context is not None and context.strategy is strategy


def is_deterministic() -> bool:
    """Whether `tf.config.experimental.enable_op_determinism` was called."""
    return tf_config.is_op_determinism_enabled()


def is_exporting() -> bool:
    """Whether a SavedModel is being written."""
    return save_context.in_save_context()


def is_single_copy_export() -> bool:
    """Whether a SavedModel of one copy of each variable is being written."""
    return values_util.is_saving_non_distributed()


def select_replica(replica_id: int, structure: Any) -> Any:
    """Takes one replica's part of a structure of per-replica values."""
    return distribute_utils.select_replica(replica_id, structure)


def own_variable(**arguments: Any) -> tf.Variable:
    """A variable that no creator has a part in: no strategy, no `tf.function`.

    Args:
        **arguments: of a variable creator.
    """
    variable: tf.Variable = variables.default_variable_creator_v2(
        None, **arguments
    )
    return variable


def default_graph() -> Any:
    """The graph that is being built; None in eager code."""
    return None if tf.executing_eagerly() else ops.get_default_graph()


def is_as_written(package: str) -> None:
    """Lets a `tf.function` run a package's code as it is written.

    AutoGraph rewrites all that a function calls, TensorFlow's own code and
    that of some other packages aside. It is slow, and warns of what it fails
    at. What the package is handed by others is rewritten as ever.

    Relies on the tuple `CONVERSION_RULES` of AutoGraph. Done once for a
    process.
    """
    rule = autograph_rules.DoNotConvert(package)
    if str(rule) not in map(str, autograph.CONVERSION_RULES):
        autograph.CONVERSION_RULES = (rule, *autograph.CONVERSION_RULES)


def may_be_traced_often(function: Any) -> None:
    """Lets TensorFlow not warn that a `tf.function` is traced again and again.

    It counts all functions of the same lines of code together.

    Relies on its attribute `_omit_frequent_tracing_warning`.
    """
    function._omit_frequent_tracing_warning = True


def is_traced_function(function: Any) -> bool:
    """Whether a function is a `tf.function`."""
    return isinstance(function, def_function.Function)


def is_per_replica(value: Any) -> bool:
    """Whether a value is another one in each replica."""
    return isinstance(value, values.PerReplica)


def per_replica(parts: Sequence[Any]) -> Any:
    """A value that is another one in each replica."""
    return values.PerReplica(tuple(parts))


def mixes_strategies(error: RuntimeError) -> bool:
    """Whether TensorFlow found things of two strategies together."""
    return "Mixing different tf.distribute.Strategy objects" in str(error)


def is_mean(reduce_op: Any) -> bool:
    """Whether a reduction, by name or as `ReduceOp`, is the mean."""
    return tf.distribute.ReduceOp.MEAN in (
        reduce_op,
        getattr(tf.distribute.ReduceOp, str(reduce_op).upper(), None),
    )
