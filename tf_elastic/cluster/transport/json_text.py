"""JSON that somebody else has written."""

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Reads JSON.

    Beyond what `json.loads` refuses, texts have to be ones that can be
    written again, to a log say, and not end in half a character.

    Args:
        text: in UTF-8, if it is bytes.

    Raises:
        ValueError: it is none. (Of `json.loads` a text that is nested too
            deep ends in a `RecursionError`.)

    Example:

    >>> parse("[1, 2]")
    [1, 2]
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value
