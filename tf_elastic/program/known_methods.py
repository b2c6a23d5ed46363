"""What the program knows of each method, before TensorFlow is started.

Those of the package have said it in `optimizers.registry`. To read it there
takes seconds, in which TensorFlow starts, and a wrong flag is told at once: so
it is in a file too, methods.json, that
`python -m tests.methods_table_test --write` writes and a test compares. Once
the optimizers are imported, as with --rules, the registry itself is asked.
"""

import functools
import json
import pathlib
import sys
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

if TYPE_CHECKING:
    from tf_elastic.optimizers.registration import Registration

PATH = pathlib.Path(__file__).with_name("methods.json")
_REGISTRY = "tf_elastic.optimizers.registry"


class Known(NamedTuple):
    """A method, as `Registration.of_the_program` tells of it."""

    name: str  # of the class
    option: str  # of --optimizer
    summary: str
    orders: list[str]
    protocols: list[str]
    refusal: str
    one_worker: bool
    flags: dict[str, list[Any]]  # name: kind, the constructor's default
    defaults: dict[str, object]  # a value, or one by the data
    refuses: dict[str, str]  # flags of all others, and why not
    advised_as: str | None  # for `theory.advise`

    def default(self, flag: str, dataset: str) -> object:
        """What is taken for a flag that is not given; None if nothing is."""
        if flag in self.defaults:
            value = self.defaults[flag]
        else:
            _, value = self.flags[flag]
        if isinstance(value, dict):
            value = value["digits" if dataset == "digits" else "cifar"]
        return value


def all_methods() -> dict[str, Known]:
    """Every method by its option, in the order in which they are listed."""
    registry = sys.modules.get(_REGISTRY)
    if registry is None:
        return _of_the_package()
    return _of_the_registry(*registry.listed())


@functools.cache
def _of_the_package() -> dict[str, Known]:
    return _by_option(json.loads(PATH.read_text("utf-8")))


@functools.lru_cache(maxsize=1)
def _of_the_registry(*registrations: "Registration") -> dict[str, Known]:
    return _by_option([made.of_the_program for made in registrations])


def _by_option(entries: list[dict[str, Any]]) -> dict[str, Known]:
    methods = [Known(**entry) for entry in entries]
    return {method.option: method for method in methods}


def all_flags() -> list[str]:
    """The flags that some method has of its own, each once."""
    return list(
        dict.fromkeys(
            flag for method in all_methods().values() for flag in method.flags
        )
    )


def takers(flag: str) -> list[str]:
    """The options of the methods that have a flag, as they are listed."""
    return [
        option
        for option, method in all_methods().items()
        if flag in method.flags
    ]
