"""The releases of TensorFlow and Keras that the package runs on.

Importing this refuses others, before anything private of theirs is named.
Exactly these pass `make test-versions`; `setup.cfg` declares the same.
"""

import keras
import tensorflow as tf

SUPPORTED_TENSORFLOW = ("2.18", "2.21")  # first and last release, inclusive
# Keras 3.10 tells callbacks of the first batch of an execution, not the last.
SUPPORTED_KERAS = ("3.11", "3.15")


class UnsupportedVersionError(ImportError):
    """The installed TensorFlow or Keras is not one that the package knows."""


def check_versions() -> None:
    """Refuses a release that is out of its range.

    Raises:
        UnsupportedVersionError: TensorFlow or Keras is older or newer.
    """
    for name, module, supported in (
        ("TensorFlow", tf, SUPPORTED_TENSORFLOW),
        ("Keras", keras, SUPPORTED_KERAS),
    ):
        first, last = supported
        installed = _release(module.__version__)
        if not _release(first) <= installed <= _release(last):
            package = name.lower()
            raise UnsupportedVersionError(
                "tf_elastic relies on private parts of TensorFlow and Keras, "
                f"and supports {name} {first} to {last}. Received: {package}=="
                f"{module.__version__}. Install a supported release: "
                f"pip install '{package}>={first},<={last}.*'."
            )


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


check_versions()
