"""Packages that training does without, and what to install for them.

`pip install tf_elastic` is enough to train. What draws, writes for TensorBoard
or reads data sets is an extra: its package is imported where it is used, and
whoever needs it here is told its name.
"""

import importlib.util
import sys

# What is imported, and the extra of setup.cfg that brings it.
EXTRAS = {
    "matplotlib": "plots",
    "tensorboard": "tensorboard",
    "tensorflow_datasets": "datasets",
    "yaml": "rehearse",
}


class MissingExtraError(ImportError):
    """A package is not installed that an extra brings."""


def require(package: str, use: str, otherwise: str = "") -> None:
    """Looks for the package of an extra, and imports nothing.

    Args:
        package: one of `EXTRAS`.
        use: what cannot be done without it; the sentence begins with it.
        otherwise: what to do instead, for the end of the sentence.

    Raises:
        MissingExtraError: it is not installed; the message is one sentence.

    Example:

    >>> require("matplotlib", "A plot", "or leave the plot out")
    """
    if package in sys.modules:
        is_there = sys.modules[package] is not None
    else:
        is_there = importlib.util.find_spec(package) is not None
    if not is_there:
        raise MissingExtraError(
            f"{use} needs `{package}`, which is not installed: pip install "
            f"'tf_elastic[{EXTRAS[package]}]'"
            f"{', ' + otherwise if otherwise else ''}."
        )
