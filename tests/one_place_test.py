"""What is written once, and who knows what of whom: by the syntax tree."""

import ast
import functools

from tests import source_tree as tree

FILES = tree.package_files()

ORDERS = {"jacobi", "gauss_seidel", "round_robin"}
# The three lines of `core.elastic`.
FORMULAS = {"elastic_difference", "pull", "push"}
# Where the papers' matrices are written down, and compared with `core`.
WRITTEN_IN = ("core", "theory")
# These are asked by whoever has the time.
TIMELESS = (
    *("Node", "NodeExchanges", "WorkerRegistry", "SyncRounds"),
    *("BootstrapElection", "CenterState", "ShardSession", "ReliableFanout"),
    *("CenterClient", "AllSessions", "ExchangeProtocol"),
    *("OneWayExchanges", "Upstream", "EdgeQueues", "NodeThreads"),
)
# What Python or a library means to be called so.
# A `twin` is of the same class.
OWN = {"self", "cls", "twin"}
MEANT = {
    *("_asdict", "_replace", "_fields", "_field_defaults", "_make"),
    "_exit",  # of `os`
}


def layer(path):
    return tree.layer_of_file(path)


@functools.cache
def walked(path):
    return list(ast.walk(tree.parse(path)))


def nodes(path, *kinds):
    return [node for node in walked(path) if isinstance(node, kinds)]


def test_an_order_is_written_in_core():
    wrong = [
        (tree.relative(path), node.lineno, node.name)
        for path in FILES
        if layer(path) not in WRITTEN_IN
        for node in nodes(path, ast.FunctionDef)
        if node.name.lstrip("_") in ORDERS
    ]
    assert not wrong, f"An order is written again: {wrong}"


def test_the_elastic_formula_is_written_in_core():
    """Others have it by a rule: `delta`, `apply`, `settle`."""
    wrong = [
        (tree.relative(path), node.lineno, node.attr)
        for path in FILES
        if layer(path) not in WRITTEN_IN
        for node in nodes(path, ast.Attribute)
        if node.attr in FORMULAS
        and isinstance(node.value, ast.Name)
        and node.value.id in ("core", "elastic")
    ]
    assert not wrong, f"These go past the rules: {wrong}"


def files_of(names):
    """{class: its file}, of those classes."""
    return {
        node.name: path
        for path in FILES
        for node in nodes(path, ast.ClassDef)
        if node.name in names
    }


def test_who_is_told_the_time_does_not_ask_for_it():
    found = files_of(TIMELESS)
    assert set(found) == set(TIMELESS)
    for name, path in found.items():
        wrong = [
            line
            for line, imported in tree.imported_names(path)
            if imported.split(".")[0] in ("time", "datetime")
        ]
        assert not wrong, (
            f"{name} in {tree.relative(path)} asks for the time itself, in "
            f"line {wrong}. Give it a clock."
        )


def privates(path):
    """(file, line, text) of names with an underscore of somebody else."""
    for node in nodes(path, ast.Attribute):
        name, value = node.attr, node.value
        if not name.startswith("_") or name.startswith("__"):
            continue
        is_own = isinstance(value, ast.Name) and value.id in OWN
        is_super = (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id == "super"
        )
        if not (is_own or is_super or name in MEANT):
            yield tree.relative(path), node.lineno, ast.unparse(node)


def test_nobody_touches_what_is_private_to_another():
    """In these layers; Keras' and TensorFlow's own come in elsewhere."""
    layers = ("core", "theory", "cluster", "data", "program")
    wrong = [
        each
        for path in FILES
        if layer(path) in layers
        for each in privates(path)
    ]
    assert not wrong


def test_these_checks_find_what_they_are_for(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def f(other):\n    return other._x, f._y, self._z\n")
    found = [node.attr for node in nodes(path, ast.Attribute)]
    assert found == ["_x", "_y", "_z"]
