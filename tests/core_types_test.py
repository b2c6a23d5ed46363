"""What type checkers know of `core`: it gives back what it is given."""

import subprocess
import sys

import pytest

from tests import source_tree as tree

pytest.importorskip("mypy", reason="it checks types")

FLOAT64 = "numpy.ndarray[tuple[Any, ...], numpy.dtype[numpy.float64]]"
FLOAT32 = FLOAT64.replace("numpy.float64", "numpy.float32")

BEFORE = """
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.core import orders
from tf_elastic.core import rules

x: NDArray[np.float64]
small: NDArray[np.float32]
tensor: Any  # as TensorFlow's are to a checker
elastic: rules.Rule = rules.Elastic()
"""

TYPES = {
    "core.pull(1.0, 2.0, moving_rate=0.5)": "float",
    "core.pull(x, x, moving_rate=0.5)": FLOAT64,
    "core.pull(x, x, moving_rate=x)": FLOAT64,
    "core.pull(small, small, moving_rate=0.5)": FLOAT32,
    "core.pull(tensor, tensor, moving_rate=tensor)": "Any",
    "core.momentum_step(x, x, x, 0.1, 0.9).velocity": FLOAT64,
    "core.momentum_step(x, x, x, 0.1, 0.9)[0]": FLOAT64,
    "core.jacobi_exchange([x], x, 0.1, 0.1).workers[0]": FLOAT64,
    "core.averaging_rate(3.0, average_from=2)": "float",
    'elastic.apply({"center": x}, x, {})["center"]': FLOAT64,
    "elastic.settle(x, x, {})": FLOAT64,
    'orders.visit(elastic, x, x, {"center": x}, {}).point': FLOAT64,
}
REFUSED = [
    'core.pull("a", "b", moving_rate=0.5)',
    "core.pull([1.0], [2.0], moving_rate=0.5)",
    'core.pull(x, x, moving_rate="0.5")',
    'elastic.delta(x, {"center": "x"})',
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What mypy says of each line, by its text."""
    lines = [*(f"reveal_type({line})" for line in TYPES), *REFUSED]
    file = tmp_path_factory.mktemp("types") / "lines.py"
    file.write_text(BEFORE + "\n".join(lines))
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=setup.cfg"),
            *("--no-incremental", "--no-pretty", str(file)),
        ],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    by_line = {}
    for answer in ran.stdout.splitlines():
        if answer.startswith(f"{file}:"):
            number, said = answer.removeprefix(f"{file}:").split(":", 1)
            by_line[int(number)] = said.strip()
    first = BEFORE.count("\n") + 1
    return {line: by_line.get(first + k, "") for k, line in enumerate(lines)}


@pytest.mark.parametrize("line", TYPES)
def test_what_comes_back_is_what_was_given(told, line):
    said = told[f"reveal_type({line})"]
    said = said.replace(
        "numpy.floating[numpy._typing._nbit_base._32Bit]", "numpy.float32"
    )
    assert said == f'note: Revealed type is "{TYPES[line]}"'


@pytest.mark.parametrize("line", REFUSED)
def test_what_has_no_arithmetic_is_refused(told, line):
    assert told[line].startswith("error:")
