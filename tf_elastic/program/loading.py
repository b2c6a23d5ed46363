"""Loads TensorFlow and Keras: quietly, and without a search for garbage."""

import contextlib
import gc
import sys
from collections.abc import Iterator

from tf_elastic.program import console


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """What is imported inside is there for good.

    To look for garbage among its 400,000 objects took a fifth of the time of
    the imports; none is looked for there afterwards, either.
    """
    is_first = "tensorflow" not in sys.modules
    collects = gc.isenabled()
    gc.disable()
    try:
        with console.quiet_stderr():
            yield
        if is_first:
            gc.freeze()
    finally:
        if collects:
            gc.enable()
