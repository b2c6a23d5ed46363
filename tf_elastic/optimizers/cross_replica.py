"""Calls of what all replicas do together."""

import functools
from typing import Any

import tensorflow as tf

from tf_elastic import compat

_NO_MEETING = (
    "An elastic exchange must be able to reach all devices, so the optimizer "
    "cannot be called from inside of a compiled or nested function. Received: "
    "a call inside of another `tf.function`, a control-flow branch, or "
    "`model.compile(jit_compile=True)`. Leave "
    '`jit_compile="auto"` in `compile` (the optimizer compiles its own '
    "update), and do not decorate `train_step`."
)


def in_cross_replica(function: Any, *args: Any, **kwargs: Any) -> None:
    """Calls `function(strategy, *args, **kwargs)` once for all replicas.

    In the code of a replica; keyword arguments are the same in all of them.

    Raises:
        RuntimeError: called where devices cannot meet.
    """
    if compat.in_compiled_graph():
        raise RuntimeError(_NO_MEETING)
    try:
        tf.distribute.get_replica_context().merge_call(
            functools.partial(function, **kwargs), args
        )
    except RuntimeError as error:
        if "`merge_call` called" not in str(error):
            raise
        raise RuntimeError(_NO_MEETING) from error
