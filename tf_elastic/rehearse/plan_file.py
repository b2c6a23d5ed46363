"""A plan in a file, YAML or JSON."""

import json
import os
from typing import Any

from tf_elastic import extras
from tf_elastic.program import usage


def read(path: str) -> Any:
    """What a file holds.

    Args:
        path: ending in .yaml, .yml or .json.

    Raises:
        UsageError: it cannot be read.
        MissingExtraError: it is YAML, whose package is not installed.
    """
    _, suffix = os.path.splitext(path)
    if suffix not in (".yaml", ".yml", ".json"):
        raise usage.UsageError(
            "A plan must be a file that ends in .yaml, .yml or .json. "
            f"Received: {path}."
        )
    if suffix != ".json":
        extras.require("yaml", f"The plan {path}", "or write it as JSON")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        return json.loads(text) if suffix == ".json" else _yaml(text)
    except (OSError, ValueError) as error:
        raise usage.UsageError(
            f"The plan {path} cannot be read: {error}"
        ) from error


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
