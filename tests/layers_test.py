"""The one-way order of the layers, and other rules that sources keep."""

import ast
import configparser
import re
import sys

import pytest

from tests import source_tree as tree
from tf_elastic import extras

FILES = tree.package_files()
PROGRAMS = sorted(tree.ROOT.glob("*.py"))
BENCHMARKS = sorted((tree.ROOT / "benchmarks").rglob("*.py"))

by_file = tree.of_each(FILES)


def third_party(path):
    """(line, dotted name) of imports from outside Python and the project."""
    own = {tree.PACKAGE, "tests", "train", "benchmarks"}
    return [
        (line, name)
        for line, name in tree.imported_names(path)
        if name.split(".")[0] not in own | set(sys.stdlib_module_names)
    ]


@by_file
def test_the_layer_is_a_known_one(path):
    assert tree.layer_of_file(path) in (*tree.LAYERS, tree.PACKAGE), (
        f"{tree.relative(path)} is in no known layer; add its place in the "
        "order to LAYERS in tests/source_tree.py."
    )


@by_file
def test_lower_layers_never_import_higher_ones(path):
    layer = tree.layer_of_file(path)
    if layer == tree.PACKAGE:
        return  # The root gathers the public names of all.
    wrong = tree.imported_layers(path) - tree.may_import(layer) - {layer}
    assert not wrong, (
        f"{tree.relative(path)} is in layer {layer!r}, which may import "
        f"{sorted(tree.may_import(layer))}. It imports {sorted(wrong)}."
    )


@by_file
def test_core_theory_and_timeline_know_no_tensorflow(path):
    allowed = {
        "core": {"numpy"},
        "theory": {"numpy", "scipy"},
        "timeline": {"numpy", "absl", "matplotlib", "yaml"},
    }
    layer = tree.layer_of_file(path)
    if layer not in allowed:
        return
    wrong = [
        (line, name)
        for line, name in third_party(path)
        if name.split(".")[0] not in allowed[layer]
    ]
    assert not wrong, f"{tree.relative(path)}: {wrong}"


@by_file
def test_what_an_extra_brings_is_imported_where_it_is_used(path):
    """Not with the file, since it may not be there, and is slow."""
    found = {
        name.split(".")[0]
        for node in tree.parse(path).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert not found & set(extras.EXTRAS), tree.relative(path)


@tree.of_each([*FILES, *PROGRAMS, *BENCHMARKS])
def test_theory_is_called_by_its_subjects(path):
    """`theory.additive.simulate`, in whatever file of the subject it is."""
    if path in FILES and tree.layer_of_file(path) == "theory":
        return
    wrong = [
        (line, name)
        for line, name in tree.imported_names(path)
        if name.startswith(f"{tree.PACKAGE}.theory.")
        and (name.count(".") > 2 or name.split(".")[2].startswith("_"))
    ]
    assert not wrong, (
        f"{tree.relative(path)} imports {wrong}. Import a subject, as in "
        "`from tf_elastic.theory import additive`, or `theory` itself."
    )


def private_uses(path):
    """(line, dotted name) of private TensorFlow and Keras names in a file."""
    aliases = {}
    found = []
    syntax = tree.parse(path)
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                aliases[alias.asname or first] = (
                    alias.name if alias.asname else first
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = (
                    f"{node.module}.{alias.name}"
                )
    found += [
        (line, name)
        for line, name in tree.imported_names(path)
        if is_private(name)
    ]
    for node in ast.walk(syntax):
        if not isinstance(node, ast.Attribute):
            continue
        text = ast.unparse(node)
        if re.fullmatch(r"\w+(\.\w+)+", text):
            first, rest = text.split(".", 1)
            name = f"{aliases.get(first, '')}.{rest}"
            if is_private(name):
                found.append((node.lineno, name))
    return found


def is_private(name):
    """Whether a dotted name is a private one of TensorFlow or Keras."""
    first, *rest = name.split(".")
    if first not in ("tensorflow", "keras") or not rest:
        return False
    if rest[0] == {"tensorflow": "python", "keras": "src"}[first]:
        return True
    special = re.compile(r"__\w+__")
    return "__internal__" in rest or any(
        part.startswith("_") and not special.fullmatch(part) for part in rest
    )


@tree.of_each([*FILES, *PROGRAMS, *BENCHMARKS])
def test_private_names_stay_in_compat(path):
    if tree.relative(path).startswith(f"{tree.PACKAGE}/compat/"):
        return
    found = private_uses(path)
    assert not found, (
        f"{tree.relative(path)} uses private names: {found}. Give them a "
        "public name in tf_elastic/compat."
    )


@pytest.mark.parametrize(
    "source",
    [
        "import tensorflow.python.eager as e",
        "from tensorflow.python import eager",
        "from keras.src import ops",
        "import importlib\nimportlib.import_module('keras.src.ops')",
        "import tensorflow as tf\ntf.__internal__.x",
        "import tensorflow as tf\ndef f():\n  return tf.nn._private(3)",
        "import keras\nkeras.src.backend",
        "from keras import ops\nops._private",
    ],
)
def test_private_names_are_found(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(source)
    assert private_uses(path)


@pytest.mark.parametrize(
    "source",
    [
        "import tensorflow as tf\ntf.__version__",
        "import tensorflow as tf\ntf.Module.__init__",
        "import keras\nclass A(keras.optimizers.SGD):\n"
        "  def f(self):\n    self._backend_update_step()",
        "from tensorflow.keras import ops\nops.add",
    ],
)
def test_public_names_are_not_taken_for_private(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(source)
    assert not private_uses(path)


@pytest.mark.parametrize(
    ("source", "layers"),
    [
        ("import tf_elastic", {"tf_elastic"}),
        ("import tf_elastic.core.x", {"core"}),
        ("from tf_elastic import core, __version__", {"core", "tf_elastic"}),
        ("def f():\n  from tf_elastic.data import load", {"data"}),
        ("from . import sibling", {"monitor"}),
        ("from .. import core", {"core"}),
        ("from ..theory.stability import x", {"theory"}),
        ("import numpy", set()),
    ],
)
def test_imported_layers(source, layers, tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    path = tmp_path / "tf_elastic" / "monitor" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert tree.imported_layers(path) == layers


@tree.of_each([*FILES, *PROGRAMS])
def test_only_the_console_prints(path):
    if tree.relative(path) == tree.CONSOLE:
        return
    lines = [
        node.lineno
        for node in ast.walk(tree.parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert not lines, f"{tree.relative(path)} prints in lines {lines}."


def declared(section, key):
    """What setup.cfg declares, by the names under which it is imported."""
    config = configparser.ConfigParser()
    config.read(tree.ROOT / "setup.cfg", encoding="utf-8")
    modules = {"absl_py": "absl", "grpcio": "grpc", "pyyaml": "yaml"}
    names = {
        re.match(r"[\w.-]+", line)[0].replace("-", "_")
        for line in config[section][key].split("\n")
        if line
    }
    return {modules.get(name, name) for name in names}


REQUIRED = declared("options", "install_requires")
EXTRA = declared("options.extras_require", "all")


def lines_that_may_wait(path):
    """The lines that `import` of a file does not run."""
    return {
        line
        for node in ast.walk(tree.parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for line in range(node.lineno, node.end_lineno + 1)
    }


@tree.of_each([*FILES, *PROGRAMS])
def test_third_party_imports_are_declared(path):
    """An extra is imported where it is used: who lacks it can train."""
    waits = lines_that_may_wait(path)
    wrong = [
        (line, name)
        for line, name in third_party(path)
        if name.split(".")[0] not in REQUIRED
        and not (name.split(".")[0] in EXTRA and line in waits)
    ]
    assert not wrong, (
        f"{tree.relative(path)} imports {wrong}, which setup.cfg does not "
        "require; a package of an extra is imported inside of a function."
    )


def test_what_is_required_is_imported():
    used = {
        name.split(".")[0]
        for path in [*FILES, *PROGRAMS]
        for _, name in third_party(path)
    }
    assert REQUIRED <= used, REQUIRED - used
    # TensorFlow imports `tensorboard` in the package's place.
    assert EXTRA - used == {"tensorboard"}


@by_file
def test_no_other_name_stands_for_any(path):
    """A name such as `Array` promises more than that all is allowed."""
    lines = [
        node.lineno
        for node in ast.walk(tree.parse(path))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and ast.unparse(node.value) in ("Any", "typing.Any")
    ]
    assert not lines, f"{tree.relative(path)} renames Any in lines {lines}."


def written_files():
    """The text files of the project, sources and documents alike."""
    skipped = {"build", "dist", "runs", "node_modules"}
    suffixes = {".py", ".md", ".cfg", ".toml", ".txt", ".json", ".sh", ""}
    return [
        path
        for path in sorted(tree.ROOT.rglob("*"))
        if path.is_file()
        and path.suffix in suffixes
        and not any(
            part in skipped
            or part.endswith(".egg-info")
            or (part.startswith(".") and part != ".ci")
            for part in path.relative_to(tree.ROOT).parts
        )
    ]


def test_no_file_names_a_place_on_one_machine():
    tops = ["home", "Users", "root", "mnt", "opt", "srv", "work", "workspace"]
    place = re.compile(rf"(?<![\w.}})>/*~-])/({'|'.join(tops)})/\w")
    found = [
        f"{tree.relative(path)}:{number}: {line.strip()}"
        for path in written_files()
        for number, line in enumerate(
            path.read_text(encoding="utf-8").splitlines(), start=1
        )
        if place.search(line)
    ]
    assert not found, "\n".join(found)
