"""The figures of the papers, drawn from `theory`.

On the command line: `python -m tf_elastic.figures NAME --out DIR`.
"""

from tf_elastic.figures.catalog import all_figures
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.writing import write

__all__ = ["Figure", "all_figures", "write"]
