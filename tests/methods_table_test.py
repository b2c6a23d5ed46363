"""What is registered is so, and the docs and `train.py` say the same.

`python -m tests.methods_table_test --write` writes the tables of
docs/methods.md anew, and what `train.py` reads instead of the registry.
"""

import argparse
import dataclasses
import inspect
import json
import pathlib

import keras
import pytest

from tests import conformance_cases as cases
from tests import conformance_support as support
from tests.conformance_cases import CASES
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic.cluster.worker import exchanger
from tf_elastic.optimizers import registration_checks
from tf_elastic.optimizers import registry
from tf_elastic.program import known_methods
from tf_elastic.program import method_table

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "methods.md"
TABLES = {
    "methods": method_table.markdown,
    "conformance": cases.markdown_table,
    "conformance on a cluster": cases.cluster_markdown_table,
}
REMEDY = "Run: python -m tests.methods_table_test --write"
NOT_LINEAR = {"HeLoCo", "HALoS"}
WIDTH = 100  # of the only layer: its kernel is nearly all that there is


def exported():
    """The optimizers with a center that the package exports, by name."""
    things = {name: getattr(optimizers, name) for name in optimizers.__all__}
    return {
        name: thing
        for name, thing in things.items()
        if inspect.isclass(thing)
        and issubclass(thing, optimizers.CenterOptimizer)
        and thing not in (optimizers.CenterOptimizer, optimizers.PushOptimizer)
    }


def test_every_optimizer_has_its_row():
    assert {m.name for m in registry.listed()} == {
        name for name in exported() if name != "ElasticOptimizer"
    }
    assert not registry.of_class(optimizers.ElasticOptimizer).listed
    for name, cls in exported().items():
        assert registry.of_class(cls) is registry.named(name)
        assert registry.named(name).cls is cls


def test_every_method_is_in_the_conformance_table():
    tested = {case.make().method_name for case in CASES.values()}
    assert tested == {method.name for method in registry.listed()}
    for name, case in CASES.items():
        assert case.make().method_name == name.split("(")[0]
        if case.like:
            assert not CASES[case.like].like
            assert set(case.refused) == set(CASES[case.like].refused)
        uses = {*cases.USES, *cases.OPTIONS, *cases.CLUSTER_USES}
        assert set(case.refused) <= uses
        for use in uses - set(case.refused):
            shown = cases.shown_by(name, use)
            assert cases.shown_by(shown, use) == shown
            assert use not in CASES[shown].refused


def test_the_registry_knows_every_protocol():
    assert set(registration_checks.PROTOCOLS) == set(exchanger.PROTOCOLS)


@pytest.mark.parametrize("method", registry.listed(), ids=lambda m: m.name)
def test_a_row_says_something_in_every_column(method):
    said = dataclasses.asdict(
        dataclasses.replace(method, cls=None, flags={}, refuses={}, defaults={})
    )
    for field, value in said.items():
        assert value != "" or field == "refusal", field
    unsaid = {"not known", "not said", "none", "others"}
    assert not unsaid & {
        method.stable,
        method.use,
        method.reference,
        method.family,
    }
    assert method.family in registry.FAMILIES
    # What is not linear has no map.
    known = None if method.name in NOT_LINEAR else method.name
    assert method.advised_as == known
    assert "learning_rate" in method.defaults
    assert method.summary == method.cls.__doc__.split("\n")[0]


def test_what_the_program_reads_is_what_is_registered():
    written = json.loads(known_methods.PATH.read_text("utf-8"))
    assert written == as_written(), REMEDY
    read = known_methods._of_the_package()
    assert read == known_methods.all_methods()
    assert [*read] == [method.option for method in registry.listed()]


def as_written():
    """Only what is the package's own: a test may have registered others."""
    return [
        method.of_the_program
        for method in registry.listed()
        if method.name in optimizers.__all__
    ]


# What an inner optimizer keeps of each parameter is its own.
INNER_COPIES = {
    "Elastic(Adam)": 2,
    # The largest delay, and the newest.
    **dict.fromkeys(
        [name for name in CASES if "(DelayedGradient)" in name], 3 + 1
    ),
}


def bytes_by_device(variables):
    """What variables take on each device."""
    held = {}
    for variable in variables:
        native = compat.native_variable(variable)
        for copy in native.store.live + native.store.centers:
            size = copy.shape.num_elements() * copy.dtype.size
            held[copy.device] = held.get(copy.device, 0) + size
    return held


@pytest.mark.parametrize("name", CASES)
def test_memory_is_what_the_row_says(name):
    case = CASES[name]
    with support.new_strategy(case).scope():
        model = keras.Sequential(
            [keras.Input((WIDTH,)), keras.layers.Dense(WIDTH, use_bias=False)]
        )
        optimizer = case.make()
        optimizer.build(model.trainable_variables)
    parameters = 4 * WIDTH**2
    held = bytes_by_device(model.trainable_variables + optimizer.variables)
    assert len(held) == case.num_workers
    method = optimizer.method
    expected = (
        1  # the parameters
        + method.worker_memory
        + method.center_memory
        + INNER_COPIES.get(name, 0)
    )
    for size in held.values():
        # Beside them clocks and rates, a few numbers.
        assert 0 <= size - expected * parameters < 200


# The docs.


def section(text, name):
    """What is between the two marks of a table, and where."""
    begin, end = (f"<!-- {name}: {mark} -->\n" for mark in ("begin", "end"))
    assert text.count(begin) == text.count(end) == 1, name
    start = text.index(begin) + len(begin)
    return start, text.index(end)


@pytest.mark.parametrize("name", TABLES)
def test_the_docs_have_the_table(name):
    text = DOCS.read_text(encoding="utf-8")
    start, end = section(text, name)
    assert text[start:end] == TABLES[name]() + "\n", REMEDY


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_has_as_many_cells_in_every_row(table):
    rows = table().splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert set(rows[1]) == set("| -")
    assert len(rows) > 10


def write():
    """Puts the tables as they are now into the docs and the program."""
    known_methods.PATH.write_text(
        json.dumps(as_written(), indent=2) + "\n", "utf-8"
    )
    text = DOCS.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        start, end = section(text, name)
        text = f"{text[:start]}{table()}\n{text[end:]}"
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables")
    if parser.parse_args().write:
        write()
    else:
        parser.error("Nothing to do. Say --write to write the tables anew.")
