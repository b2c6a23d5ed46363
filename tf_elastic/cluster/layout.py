"""How a model's variables lie in the center: flat, in equal shards.

The variables that are exchanged are laid end to end, in one *section* for each
role and dtype. Each of n center servers holds the same share of every section,
so shards are equal by bytes (to a value), however the model is cut into
variables. Where a rule looks at whole variables, none is cut in two: then a
shard begins with the first variable that begins in it, and some may be empty.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic import version
from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import fields
from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.transport import wire
from tf_elastic.core.rules import Elastic
from tf_elastic.core.rules import Follow
from tf_elastic.core.rules import Rule
from tf_elastic.core.rules import for_dtype
from tf_elastic.core.rules import from_config
from tf_elastic.timeline.fingerprint import fingerprint

PARAMETERS = "parameters"  # pulled and pushed
STATISTICS = "statistics"  # pushed only; workers keep their own
_WORDS = {
    "format": "the format of the calls",
    "tf_elastic": "the release of tf_elastic",
    "num_shards": "the number of center servers",
}
DTYPES = ("float16", "bfloat16", "float32", "float64")
_MOST_VALUES = 2**40
_FOLLOW = Follow()

_DESCRIPTION = fields.record(
    {
        "format": fields.integer(),
        "tf_elastic": fields.text(100),
        "num_shards": fields.integer(1, 2**16),
        "rule": fields.tree(fields.scalar, 20, 4),
        "variables": fields.each(
            fields.row(
                fields.text(10_000),
                fields.each(fields.integer(high=_MOST_VALUES), 100),
                fields.one_of(*DTYPES),
                fields.one_of(PARAMETERS, STATISTICS),
            ),
            1_000_000,
        ),
    }
)


class VariableSpec(NamedTuple):
    """A variable as the center knows it."""

    name: str  # for messages; not compared
    shape: tuple[int, ...]
    dtype: str  # a name that NumPy or ml_dtypes knows
    role: str  # PARAMETERS or STATISTICS


class Section(NamedTuple):
    """The variables of one role and dtype, end to end."""

    role: str
    dtype: str
    members: tuple[int, ...]  # indices of the variables
    size: int  # values

    @property
    def nbytes(self) -> int:
        """Bytes of all its values."""
        return self.size * np_dtype(self.dtype).itemsize


class Layout:
    """The sections of a model and their cuts.

    Args:
        variables: in the order in which every worker has them.
        num_shards: how many center servers there are.
        rule: what the center does with messages; None for elastic averaging.
    """

    def __init__(
        self,
        variables: Sequence[VariableSpec],
        num_shards: int,
        rule: Rule | None = None,
    ) -> None:
        self.variables = tuple(variables)
        self.num_shards = num_shards
        self.rule = rule or Elastic()
        keys = sorted({(v.role, v.dtype) for v in self.variables})
        self.sections = tuple(
            self._section(role, dtype) for role, dtype in keys
        )

    def _section(self, role: str, dtype: str) -> Section:
        members = tuple(
            k
            for k, v in enumerate(self.variables)
            if (v.role, v.dtype) == (role, dtype)
        )
        size = sum(_size(self.variables[k].shape) for k in members)
        return Section(role, dtype, members, size)

    def rule_of(self, section: Section) -> Rule:
        """What the center does with a section: by its role and its dtype."""
        rule = self.rule if section.role == PARAMETERS else _FOLLOW
        return for_dtype(rule, section.dtype)

    def cut(self, section: Section, shard: int) -> slice:
        """The part of a section that a shard holds."""
        return slice(
            self._border(section, shard), self._border(section, shard + 1)
        )

    def _border(self, section: Section, shard: int) -> int:
        """Where a shard begins."""
        position = section.size * shard // self.num_shards
        if not self.is_by_variable(section):
            return position
        sizes = [_size(self.variables[k].shape) for k in section.members]
        begins = list(itertools.accumulate(sizes, initial=0))
        return begins[bisect.bisect_left(begins, position)]

    def is_by_variable(self, section: Section) -> bool:
        """Whether whole variables of a section move at once."""
        return self.rule_of(section).by_variable

    def shard_sizes(self, shard: int) -> list[int]:
        """The values of each section that a shard holds."""
        cuts = [self.cut(section, shard) for section in self.sections]
        return [cut.stop - cut.start for cut in cuts]

    def empty_parts(self, shard: int) -> list[np.ndarray]:
        """Arrays to receive what a shard holds of each section."""
        sizes = self.shard_sizes(shard)
        return [
            np.empty(size, np_dtype(section.dtype))
            for section, size in zip(self.sections, sizes, strict=True)
        ]

    def parts(self, flat: Sequence[np.ndarray], shard: int) -> list[np.ndarray]:
        """The views of whole sections that concern a shard.

        Args:
            flat: one array for each section, of shape (size,).
            shard: index of the center server.
        """
        return [
            array[self.cut(section, shard)]
            for section, array in zip(self.sections, flat, strict=True)
        ]

    def check_runs(self, runs: Sequence[Sequence[int]]) -> None:
        """Refuses what `runs_of` has not made of variables of this model.

        Raises:
            MessageError: it has not.
        """
        for begin, end in runs:
            if not 0 <= begin < end <= len(self.variables):
                raise errors.MessageError(
                    f"Runs of variables must be from 0 to "
                    f"{len(self.variables)}. Received: {begin} to {end}"
                )

    def places(
        self, section: Section, shard: int, runs: Sequence[Sequence[int]]
    ) -> list[slice]:
        """Where a shard holds some variables of a section.

        Args:
            section: of this layout.
            shard: index of the center server.
            runs: of the variables; see `runs_of`.

        Returns:
            Parts of what the shard holds, in their order.
        """
        cut, places, first = self.cut(section, shard), [], 0
        for k in section.members:
            after = first + _size(self.variables[k].shape)
            begin, end = max(first, cut.start), min(after, cut.stop)
            if begin < end and any(a <= k < b for a, b in runs):
                places.append(slice(begin - cut.start, end - cut.start))
            first = after
        return places

    def empty(self, shared: bool = False) -> list[np.ndarray]:
        """Arrays to receive every section, of shape (size,) each.

        TensorFlow takes them as they are, without a copy.

        Args:
            shared: whether a center server of this host is to be let in, if
                there is such memory.
        """
        sizes = [section.size for section in self.sections]
        dtypes = [np_dtype(section.dtype) for section in self.sections]
        arrays = shared_memory.empty(sizes, dtypes) if shared else None
        return arrays or [
            _aligned(*pair) for pair in zip(sizes, dtypes, strict=True)
        ]

    def copies(self, flat: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `empty`, with these values."""
        copies = self.empty()
        for copy, array in zip(copies, flat, strict=True):
            np.copyto(copy, array)
        return copies

    def zeros(self) -> list[np.ndarray]:
        """As `empty`, filled with zeros."""
        return [
            np.zeros(section.size, np_dtype(section.dtype))
            for section in self.sections
        ]

    def describe(self) -> dict[str, Any]:
        """What a center server is told, and compares; JSON."""
        return {
            **_about(),
            "num_shards": self.num_shards,
            "rule": self.rule.config(),
            "variables": [
                [v.name, list(v.shape), v.dtype, v.role] for v in self.variables
            ],
        }

    @property
    def fingerprint(self) -> str:
        """Of the variables, a short name; see `timeline.fingerprint`."""
        return fingerprint((v.shape, v.dtype, v.role) for v in self.variables)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Layout":
        """The layout that `describe` has described.

        Raises:
            MessageError: what somebody has sent is no such description.
        """
        description = _DESCRIPTION("description", description)
        sizes = [math.prod(shape) for _, shape, *_ in description["variables"]]
        if sum(sizes) > _MOST_VALUES:
            raise errors.MessageError(
                f"A model may have {_MOST_VALUES} values. Received: "
                f"{sum(sizes)} of them."
            )
        try:
            rule = from_config(description["rule"])
        except ValueError as error:
            raise errors.MessageError(str(error)) from error
        return cls(
            [
                VariableSpec(name, tuple(shape), dtype, role)
                for name, shape, dtype, role in description["variables"]
            ],
            description["num_shards"],
            rule,
        )

    def variable_at(self, section: Section, position: int) -> str:
        """The name of the variable that a value of a section belongs to."""
        for k in section.members:
            size = _size(self.variables[k].shape)
            if position < size:
                return self.variables[k].name
            position -= size
        raise IndexError(position)


def runs_of(indices: Sequence[int]) -> list[list[int]]:
    """Some variables, as the few runs that they are.

    Args:
        indices: of them, without repetition.

    Example:

    >>> runs_of([4, 0, 1, 2])
    [[0, 3], [4, 5]]
    """
    runs: list[list[int]] = []
    for k in sorted(indices):
        if runs and runs[-1][1] == k:
            runs[-1][1] = k + 1
        else:
            runs.append([k, k + 1])
    return runs


def members_of(runs: Sequence[Sequence[int]]) -> frozenset[int]:
    """The variables that `runs_of` was given."""
    return frozenset(k for begin, end in runs for k in range(begin, end))


def other_release(theirs: dict[str, Any]) -> str | None:
    """As `difference` to any center of this release.

    Of another one a description may be in other words.
    """
    ours = {**theirs, **_about()}
    return difference(ours, theirs) if ours != theirs else None


def _about() -> dict[str, Any]:
    return {"format": wire.FORMAT, "tf_elastic": version.__version__}


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """In words, the first thing in which two descriptions differ.

    Args:
        ours: the center's.
        theirs: the worker's.

    Returns:
        A sentence without its stop, or None if they are the same.
    """
    for key, words in _WORDS.items():
        if ours.get(key) != theirs.get(key):
            return (
                f"{words} is {ours.get(key)} at the center and "
                f"{theirs.get(key)!s:.80} at the worker"
            )
    if ours.get("rule") != theirs.get("rule"):
        return (
            f"the exchange is {_rule_words(ours.get('rule'))} at the center "
            f"and {_rule_words(theirs.get('rule'))} at the worker"
        )
    here, there = ours["variables"], theirs["variables"]
    if len(here) != len(there):
        return (
            f"the center's model has {len(here)} variables, the worker's "
            f"{len(there)}"
        )
    for k, (mine, yours) in enumerate(zip(here, there, strict=True)):
        if mine[1:] != yours[1:]:
            return (
                f"variable {k} is {_words(mine)} at the center and "
                f"{_words(yours)} at the worker"
            )
    return None


def _words(variable: Sequence[Any]) -> str:
    name, shape, dtype, role = variable
    kind = "" if role == PARAMETERS else f" ({role})"
    return f"{name!r} {dtype}{list(shape)}{kind}"


def _rule_words(rule: Any) -> str:
    is_elastic = rule == Elastic().config()
    return "elastic averaging" if is_elastic else f"{rule!s:.200}"


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """An empty flat array, where TensorFlow wants its arrays to begin."""
    nbytes = size * dtype.itemsize
    memory = np.empty(nbytes + shared_memory.ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % shared_memory.ALIGNMENT
    return memory[begin : begin + nbytes].view(dtype)


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def np_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name; bfloat16 too."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype = np.dtype(name)
    return dtype
