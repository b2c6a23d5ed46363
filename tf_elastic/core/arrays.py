"""What formulas compute with: the type of an array, for readers and checkers.

A formula takes numbers, NumPy arrays and TensorFlow's tensors alike, and gives
back what it was given. `Array` says so: NumPy in is NumPy out. TensorFlow has
no types, so a tensor is anything to a type checker, here and elsewhere; what
is written `tf.Tensor` is one to a reader.
"""

import functools
import sys
import typing
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol
from typing import TypeVar
from typing import Union

if TYPE_CHECKING or sys.version_info >= (3, 11):
    from typing import NamedTuple as NamedTuple
else:

    def NamedTuple() -> None:
        """A base class beside which `Generic` may stand, as in Python 3.11.

        Python 3.10 refuses that. Its named tuples take `[...]` all the same.
        """

    NamedTuple.__mro_entries__ = lambda bases: (
        typing.NamedTuple.__mro_entries__((typing.NamedTuple,))
    )


_Self = TypeVar("_Self")


class Arithmetic(Protocol):
    """What can be added, multiplied, divided and raised to a power.

    By numbers, and by its like: NumPy has no narrower type for the other
    operand that its arrays of all dtypes keep.
    """

    def __add__(self: _Self, other: Any, /) -> _Self: ...

    def __radd__(self: _Self, other: Any, /) -> _Self: ...

    def __sub__(self: _Self, other: Any, /) -> _Self: ...

    def __rsub__(self: _Self, other: Any, /) -> _Self: ...

    def __mul__(self: _Self, other: Any, /) -> _Self: ...

    def __rmul__(self: _Self, other: Any, /) -> _Self: ...

    def __truediv__(self: _Self, other: Any, /) -> _Self: ...

    def __rtruediv__(self: _Self, other: Any, /) -> _Self: ...

    def __pow__(self: _Self, other: Any, /) -> _Self: ...

    def __neg__(self: _Self) -> _Self: ...

    def __abs__(self: _Self) -> _Self: ...


# A number, a NumPy array, or a TensorFlow tensor: floating, any shape.
Array = TypeVar("Array", bound=Arithmetic)


# Beyond arithmetic, for rules that look at whole variables
# (`Rule.by_variable`). Whoever brings another kind of array registers it.


@functools.singledispatch
def inner_product(values: Any, others: Any) -> Any:
    """The sum of the products of two arrays' values, of any shape.

    Args:
        values: a NumPy array; or of a kind that is registered.
        others: same shape.

    Returns:
        A number of double precision; of tensors a scalar one.

    Example:

    >>> import numpy as np
    >>> inner_product(np.array([[3.0, 4.0]]), np.array([[1.0, 0.5]]))
    5.0
    """
    wide = "float32" if values.dtype.itemsize < 4 else values.dtype
    products = values.astype(wide) * others.astype(wide, copy=False)
    return float(products.sum(dtype="float64"))


@functools.singledispatch
def number_for(array: Any, number: Any) -> Any:
    """A number that an array is multiplied by without another dtype.

    Args:
        array: a NumPy array; or of a kind that is registered.
        number: as `inner_product` gives it, and what is computed from it.

    Example:

    >>> import numpy as np
    >>> number_for(np.ones(2, np.float32), 0.5).dtype
    dtype('float32')
    """
    return array.dtype.type(number)


# Precision. What adds up many small moves is kept in float32 at least; workers,
# and messages, have the dtype that their variable has.


def wide_dtype(name: str) -> str:
    """The dtype in which a center of variables of a dtype is kept.

    Args:
        name: of a floating dtype.

    Example:

    >>> wide_dtype("bfloat16"), wide_dtype("float64")
    ('float32', 'float64')
    """
    return "float32" if name in ("float16", "bfloat16") else name


@functools.singledispatch
def rounded(array: Any, dtype: str) -> Any:
    """An array in another dtype; the same if it has that.

    Args:
        array: a NumPy array; or of a kind that is registered.
        dtype: its name, which NumPy knows: that of bfloat16 from when
            `ml_dtypes` is imported, without which there is no such array.
    """
    return array.astype(dtype, copy=False)


def widened(array: Any) -> Any:
    """An array in its `wide_dtype`; a number as it is.

    Example:

    >>> import numpy as np
    >>> widened(np.ones(2, np.float16)).dtype
    dtype('float32')
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or wide_dtype(dtype.name) == dtype.name:
        return array
    return rounded(array, wide_dtype(dtype.name))


# What multiplies an `Array`: a number, or a scalar of its kind. `theory` has
# arrays that broadcast.
Scalar = Union[float, Array]
