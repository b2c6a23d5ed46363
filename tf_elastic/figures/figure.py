"""What a figure is: its numbers, and how they are drawn."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic.figures.trained.settings import Setting

if TYPE_CHECKING:
    import matplotlib.figure

# Columns of equal length, by name: one row for each point of the figure.
Table = Mapping[str, NDArray[np.generic]]


class Figure(NamedTuple):
    """A figure of a paper.

    Attributes:
        name: what it is called on the command line, as "thesis-5.2".
        caption: what it shows, in a sentence, with its setting.
        compute: its numbers, with no drawing. If it has `runs`, of what was
            seen of these: `records.Runs`.
        draw: draws the numbers of `compute` into an empty figure.
        size: width and height in inches.
        runs: what has to be trained first, all that the paper has tried.
    """

    name: str
    caption: str
    compute: Callable[..., Table]
    draw: Callable[[Table, "matplotlib.figure.Figure"], None]
    size: tuple[float, float] = (6.0, 4.5)
    runs: tuple[Setting, ...] = ()
