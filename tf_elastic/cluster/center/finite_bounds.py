"""Whether a message of finite numbers leaves a center of finite ones."""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.blocks import largest
from tf_elastic.core.rules import Rates
from tf_elastic.core.rules import Rule

_Slots = Mapping[str, Sequence[np.ndarray]]


class Bounds:
    """How large a center server's values are at most, by sections.

    Where that is enough to tell, nobody looks at every value.

    Args:
        index: of the server, for messages.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._largest: list[float] = []  # of each section, in all slots

    def forget(self, sections: int) -> None:
        """All values are new; there are so many sections."""
        self._largest = [math.inf] * sections

    def hold(
        self,
        rule: Rule,
        k: int,
        slots: _Slots,
        message: float,
        rates: Rates,
        dtype: np.dtype,
    ) -> bool:
        """Whether a section stays finite for sure, in all slots.

        Args:
            rule: of the section.
            k: its index.
            slots: all that is kept.
            message: how large the delta is, at most.
            rates: by which it counts.
            dtype: of what travels, which has to be finite as well.
        """
        info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        most = float(info.max) / 4
        after = rule.reached(self._largest[k], message, rates)
        if after is not None and not after < most:
            # Too large, or not known as yet.
            held = max(largest(arrays[k]) for arrays in slots.values())
            after = rule.reached(held, message, rates)
        sure = after is not None and after < most
        self._largest[k] = after if after is not None and sure else math.inf
        return sure

    def check(self, moved: _Slots, k: int, dtype: np.dtype) -> None:
        """Looks at every value of a section.

        Args:
            moved: all that is kept.
            k: its index.
            dtype: see `hold`.

        Raises:
            NonFiniteError: one is not finite.
        """
        if not all(
            np.isfinite(arrays[k].astype(dtype, copy=False)).all()
            for arrays in moved.values()
        ):
            raise errors.NonFiniteError(
                f"center {self._index} has not taken a push of finite numbers "
                "that would make it infinite"
            )
