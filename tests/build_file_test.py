"""The Bazel BUILD file covers what there is, layer by layer.

BUILD is read as Bazel reads it: its globs are expanded in this folder, and its
rules are the calls that it makes.
"""

import ast
import collections
import configparser
import pathlib

import pytest

from tests import source_tree as tree

BUILD = tree.ROOT / "BUILD"
MAIN = "tests/bazel_main.py"


def expand(include, exclude=()):
    """The files that Bazel's `glob` finds, by their names from the root.

    A pattern that finds nothing is an error, as it is in Bazel.
    """
    found = set()
    for pattern in include:
        paths = files(tree.ROOT, pattern)
        assert paths, f"BUILD: {pattern} finds no file."
        found |= paths
    for pattern in exclude:
        found -= files(tree.ROOT, pattern)
    return sorted(map(tree.relative, found))


def files(root, pattern):
    """The files below `root`; a pattern's last `**` stands for files too."""
    if pattern.endswith("**"):
        pattern += "/*"
    return {path for path in root.glob(pattern) if path.is_file()}


def read_rules():
    """{name: (kind, attributes)} of the rules of BUILD."""
    text = BUILD.read_text(encoding="utf-8")
    # Starlark is a part of Python; BUILD may only call rules, not define.
    syntax = ast.parse(text, filename="BUILD")
    assert all(isinstance(node, ast.Expr) for node in syntax.body)
    rules = {}

    def rule_of(kind):
        def record(*, name, **attributes):
            assert name not in rules, f"BUILD has two rules {name!r}."
            rules[name] = (kind, attributes)

        return record

    kinds = ("py_binary", "py_library", "py_test", "filegroup")
    names = {kind: rule_of(kind) for kind in kinds}
    for name in ("load", "package", "licenses", "exports_files"):
        names[name] = lambda *args, **kwargs: None
    names |= {"__builtins__": {}, "glob": expand, "True": True, "len": len}
    exec(compile(syntax, "BUILD", "exec"), names)
    return rules


RULES = read_rules()
LAYERS = [*tree.LAYERS, tree.PACKAGE]


def rules_of(kind):
    return {name: a for name, (k, a) in RULES.items() if k == kind}


def package_libraries():
    """The libraries of the package, that of the tests aside."""
    return {
        name: attributes
        for name, attributes in rules_of("py_library").items()
        if not attributes.get("testonly")
    }


def labels(attributes, key="deps"):
    """The names of the targets in an attribute."""
    return {
        item.removeprefix(":")
        for item in attributes.get(key, [])
        if item.startswith(":")
    }


def below(name):
    """The names of all targets that a target needs, itself among them."""
    _, attributes = RULES[name]
    needed = labels(attributes) | labels(attributes, "data")
    return {name}.union(*map(below, needed))


def listed_files(attributes):
    """The files that a rule names, without those of other rules."""
    items = [*attributes.get("srcs", []), *attributes.get("data", [])]
    return [item for item in items if not item.startswith(":")]


def files_of_layer(layer):
    return [
        tree.relative(path)
        for path in tree.package_files()
        if tree.layer_of_file(path) == layer
    ]


def test_there_is_a_library_for_each_layer_and_no_other():
    assert set(package_libraries()) == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_library_has_the_modules_of_its_layer(layer):
    listed = package_libraries()[layer]["srcs"]
    assert sorted(listed) == sorted(files_of_layer(layer))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_library_depends_on_what_its_layer_imports(layer):
    deps = labels(package_libraries()[layer])
    if layer == tree.PACKAGE:
        assert deps == set(tree.LAYERS)
        return
    imported = [
        tree.imported_layers(tree.ROOT / name) for name in files_of_layer(layer)
    ]
    assert deps == set().union(*imported) - {layer}
    wrong = deps - tree.may_import(layer)
    assert not wrong, f":{layer} may not depend on {sorted(wrong)}."


def test_every_file_is_in_exactly_one_target():
    listed = collections.Counter()
    for name, (kind, attributes) in RULES.items():
        items = listed_files(attributes)
        if kind == "py_test":  # each begins with the same module
            assert items.count(MAIN) == 1, name
            items.remove(MAIN)
        listed.update(items)
    patterns = ["*.py", "benchmarks/**/*.py", "examples/**/*.py"]
    patterns += [f"{x}/**" for x in (tree.PACKAGE, "tests", "deploy", "docs")]
    there = {
        tree.relative(path)
        for pattern in patterns
        for path in files(tree.ROOT, pattern)
        if "__pycache__" not in path.parts
    }
    texts = {path for path in listed if "/" not in path} - there
    assert all((tree.ROOT / path).is_file() for path in texts)
    assert listed == collections.Counter([*there, *texts])


def test_package_data_is_what_is_installed():
    config = configparser.ConfigParser(interpolation=None)
    config.read(tree.ROOT / "setup.cfg", encoding="utf-8")
    installed = set()
    for package, patterns in config["options.package_data"].items():
        folder = tree.ROOT.joinpath(*package.split("."))
        for pattern in patterns.split(","):
            installed |= files(folder, pattern.strip())
    listed = {
        tree.ROOT / item
        for attributes in package_libraries().values()
        for item in attributes.get("data", [])
    }
    assert listed == installed


def test_every_label_is_a_target():
    for name, (_, attributes) in RULES.items():
        for key in ("srcs", "deps", "data"):
            assert labels(attributes, key) <= set(RULES), name


def test_the_binary_depends_on_what_the_program_imports():
    binary = rules_of("py_binary")["train"]
    assert binary["srcs"] == ["train.py"]
    assert labels(binary) == tree.imported_layers(tree.ROOT / "train.py")


def test_every_test_has_a_target_that_runs_it():
    ran = {}
    for name, attributes in rules_of("py_test").items():
        path, main = attributes["srcs"]
        assert main == attributes["main"] == MAIN
        assert attributes["args"] == [f"$(location {path})"]
        assert pathlib.PurePath(path).stem == name.split("/")[-1]
        ran[path] = name
    assert sorted(ran) == list(map(tree.relative, tree.test_files()))


def test_a_test_has_all_that_it_may_import_and_read():
    everything = {*LAYERS, "train", "test_support", "read_by_tests"}
    for name in rules_of("py_test"):
        assert below(name) == {name} | everything


def test_what_is_for_tests_is_for_them_alone():
    for name in (*LAYERS, "train"):
        assert not below(name) & {"test_support", "read_by_tests"}


def test_the_licence_is_declared():
    assert 'licenses(["notice"])' in BUILD.read_text(encoding="utf-8")
    assert "Apache License" in (tree.ROOT / "LICENSE").read_text("utf-8")
