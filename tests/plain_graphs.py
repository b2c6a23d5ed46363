"""Graphs that run as they are traced, here and in the tests' own processes.

To compile by XLA takes longer than most of what is tested, and to rewrite
graphs, as TensorFlow does, a quarter of the time. `make test-all` has both.
"""

import os

import tensorflow as tf

from tf_elastic.optimizers import compiled

_NAME = "TF_ELASTIC_TEST_PLAIN_GRAPHS"


def begin():
    """From now on: XLA is for `jit_compile=True` alone."""
    os.environ[_NAME] = "1"
    as_asked()


def as_asked():
    """The same in a process that one has started which has begun."""
    if _NAME not in os.environ:
        return
    compiled.can_compile = lambda device_type: False
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
