"""The advisor: is a setting stable, and what to do if it is not.

`advise` is the whole of it; `tf_elastic.theory.advise` is that function, and
`python -m tf_elastic.theory.advise` its command line. Inside, `setting` has the
methods and the checked arguments, `period_map` and `late_gradients` the exact
linear maps, `search` the nearest stable values, `speed` the best momentum and
the number of workers that help, `sentences` the words.
"""

from tf_elastic.theory.advise.advice import Advice
from tf_elastic.theory.advise.advice import Statement
from tf_elastic.theory.advise.advisor import advise
from tf_elastic.theory.advise.search import Change
from tf_elastic.theory.advise.setting import RULES

__all__ = ["RULES", "Advice", "Change", "Statement", "advise"]
