"""A short name for what a model's variables look like."""

import hashlib
import json
import math
from collections.abc import Iterable
from collections.abc import Sequence


def fingerprint(variables: Iterable[tuple[Sequence[int], str, str]]) -> str:
    """The same for models whose variables could be exchanged, else another.

    Args:
        variables: of each its shape, the name of its dtype, and its role:
            "parameters" or "statistics"; in the order in which a worker has
            them.

    Example:

    >>> fingerprint([((3, 4), "float32", "parameters")])
    '1 variables, 12 values: 20de8d65c2fa0979'
    """
    rows = [(list(shape), dtype, role) for shape, dtype, role in variables]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    values = 0
    for shape, _, _ in rows:
        values += math.prod(shape)
    return f"{len(rows)} variables, {values} values: {digest[:16]}"
