"""JSON that somebody else has written."""

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Reads JSON.

    Raises:
        ValueError: it is none. Of `json.loads` a text that is nested too
            deep ends in a `RecursionError`.

    Example:

    >>> parse("[1, 2]")
    [1, 2]
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
