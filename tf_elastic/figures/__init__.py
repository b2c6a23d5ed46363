"""The figures of the papers, drawn from `theory`, or from runs.

On the command line: `python -m tf_elastic.figures NAME --out DIR`, and for
what has to be trained first `--scale=tiny`, or a part of the papers' training.
"""

from tf_elastic.figures.catalog import all_figures
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.trained.settings import Setting
from tf_elastic.figures.writing import write

__all__ = ["Figure", "Setting", "all_figures", "write"]
