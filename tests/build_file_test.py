"""The Bazel BUILD file lists what there is.

`python -m tests.build_file_test --write` (or `make build-file`) writes BUILD
anew from the sources; it needs the standard library only. The tests read BUILD
for themselves and do not compare it with what would be written.
"""

import argparse
import ast
import collections

from tests import source_tree as tree

BUILD = tree.ROOT / "BUILD"
REMEDY = "Run `make build-file`."

HEADER = """\
# Bazel targets: a library for each layer, the binary, and each test.
#
# Written by `make build-file`, checked by tests/build_file_test.py. Packages
# from outside (see setup.cfg) are those of Bazel's Python toolchain.

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

licenses(["notice"])  # Apache-2.0

exports_files(["LICENSE"])
"""


def layer_files():
    """{layer: its modules}, in the order of the layers, the root last."""
    files = collections.defaultdict(list)
    for path in tree.package_files():
        files[tree.layer_of_file(path)].append(path)
    order = [*tree.LAYERS, tree.PACKAGE]
    return {layer: files[layer] for layer in order if files[layer]}


def layer_deps(layer, paths):
    """The layers that these modules import; the root gathers all."""
    if layer == tree.PACKAGE:
        return set(layer_files()) - {layer}
    return set().union(*map(tree.imported_layers, paths)) - {layer}


def layer_data(layer):
    """What the package data of setup.cfg names, for the layer."""
    if layer == tree.PACKAGE:
        return [tree.ROOT / tree.PACKAGE / "py.typed"]
    folder = tree.ROOT / tree.PACKAGE / layer
    return sorted([*folder.glob("*.npz"), *folder.glob("*.txt")])


def deps_of_test(path):
    """The targets that a file under tests/ needs."""
    deps = tree.imported_layers(path)
    names = {name for _, name in tree.imported_names(path)}
    tops = {name.split(".")[0] for name in names}
    if "tests" in tops:
        deps.add("test_support")
    # Those that read the sources, or start the program, want all of them.
    text = path.read_text(encoding="utf-8")
    if "tests.source_tree" in names or "train" in tops or "train.py" in text:
        deps.add("train")
    return deps


def data_of_test(path):
    """The files that a test reads, apart from those of its targets."""
    data = ["setup.cfg"]
    if path.stem in ("deploy_test", "slurm_test"):
        deploy = sorted((tree.ROOT / "deploy").rglob("*.*"))
        data += [tree.relative(file) for file in deploy if file.is_file()]
    if path.stem == "methods_table_test":
        data.append("docs/methods.md")
    if path.stem == "golden_test":
        data += map(tree.relative, sorted(path.parent.glob("golden/*.npz")))
    return data


def render():
    """The text of BUILD for the sources as they are."""
    rules = [HEADER]
    for layer, paths in layer_files().items():
        rules.append(
            rule(
                "py_library",
                name=layer,
                srcs=map(tree.relative, paths),
                data=map(tree.relative, layer_data(layer)),
                imports=["."],
                deps=targets(layer_deps(layer, paths)),
            )
        )
    rules.append(
        rule(
            "py_binary",
            name="train",
            srcs=["train.py"],
            deps=targets(tree.imported_layers(tree.ROOT / "train.py")),
        )
    )
    support = tree.test_support_files()
    rules.append(
        rule(
            "py_library",
            name="test_support",
            testonly=True,
            srcs=map(tree.relative, support),
            data=["BUILD", "setup.cfg"],
            imports=["."],
            deps=targets(set().union(*map(tree.imported_layers, support))),
        )
    )
    for path in tree.test_files():
        name = tree.relative(path)
        rules.append(
            rule(
                "py_test",
                name=path.stem,
                timeout="long",
                srcs=[name, "tests/bazel_main.py"],
                main="tests/bazel_main.py",
                args=[f"$(location {name})"],
                data=data_of_test(path),
                deps=targets(deps_of_test(path)),
            )
        )
    return "\n".join(rules)


def targets(names):
    """Labels in this package."""
    return [f":{name}" for name in sorted(names)]


def rule(kind, **attributes):
    """A call of a Bazel rule; empty lists are left out."""
    lines = [f"{kind}("]
    for key, value in attributes.items():
        if isinstance(value, (str, bool)):
            lines.append(f"    {key} = {quoted(value)},")
            continue
        values = [quoted(item) for item in value]
        if len(values) == 1:
            lines.append(f"    {key} = [{values[0]}],")
        elif values:
            lines.append(f"    {key} = [")
            lines += [f"        {item}," for item in values]
            lines.append("    ],")
    return "\n".join([*lines, ")", ""])


def quoted(value):
    """A string or a bool in Starlark."""
    return str(value) if isinstance(value, bool) else f'"{value}"'


def read_rules(kind):
    """{name: attributes} of the rules of one kind in BUILD."""
    rules = {}
    for node in ast.parse(BUILD.read_text(encoding="utf-8")).body:
        call = getattr(node, "value", None)
        if isinstance(call, ast.Call) and call.func.id == kind:
            attributes = {
                keyword.arg: ast.literal_eval(keyword.value)
                for keyword in call.keywords
            }
            assert attributes["name"] not in rules, attributes["name"]
            rules[attributes["name"]] = attributes
    return rules


def package_libraries():
    """The libraries of the package, that of the tests aside."""
    libraries = read_rules("py_library")
    return {k: v for k, v in libraries.items() if not v.get("testonly")}


def labels(attributes):
    """The names of the targets that a rule depends on."""
    return {label.removeprefix(":") for label in attributes.get("deps", [])}


def test_every_module_is_in_exactly_one_library():
    listed = collections.Counter(
        source for lib in package_libraries().values() for source in lib["srcs"]
    )
    there = collections.Counter(map(tree.relative, tree.package_files()))
    assert listed == there, REMEDY


def test_every_test_has_its_target():
    listed = {
        name: attributes["srcs"][0]
        for name, attributes in read_rules("py_test").items()
    }
    there = {path.stem: tree.relative(path) for path in tree.test_files()}
    assert listed == there, REMEDY


def test_every_test_target_runs_its_own_file():
    for name, attributes in read_rules("py_test").items():
        assert attributes["main"] == "tests/bazel_main.py"
        assert attributes["args"] == [f"$(location tests/{name}.py)"], REMEDY


def test_test_support_is_listed():
    listed = read_rules("py_library")["test_support"]["srcs"]
    there = list(map(tree.relative, tree.test_support_files()))
    assert sorted(listed) == there, REMEDY


def test_the_binary_is_there():
    assert read_rules("py_binary")["train"]["srcs"] == ["train.py"]


def test_package_data_is_listed():
    libraries = package_libraries()
    for layer in layer_files():
        there = list(map(tree.relative, layer_data(layer)))
        assert libraries[layer].get("data", []) == there, REMEDY


def test_nothing_listed_is_missing():
    rules = [
        attributes
        for kind in ("py_library", "py_binary", "py_test")
        for attributes in read_rules(kind).values()
    ]
    names = {attributes["name"] for attributes in rules}
    for attributes in rules:
        for source in attributes["srcs"] + attributes.get("data", []):
            assert (tree.ROOT / source).is_file(), f"{source}: {REMEDY}"
        assert labels(attributes) <= names, attributes


def test_libraries_follow_the_order_of_the_layers():
    for name, attributes in package_libraries().items():
        if name != tree.PACKAGE:
            wrong = labels(attributes) - tree.may_import(name)
            assert not wrong, f":{name} may not depend on {sorted(wrong)}."


def test_dependencies_are_what_the_sources_import():
    libraries = package_libraries()
    for layer, paths in layer_files().items():
        assert labels(libraries[layer]) == layer_deps(layer, paths), REMEDY
    binary = read_rules("py_binary")["train"]
    assert labels(binary) == tree.imported_layers(tree.ROOT / "train.py"), (
        REMEDY
    )
    tests = read_rules("py_test")
    for path in tree.test_files():
        assert labels(tests[path.stem]) == deps_of_test(path), REMEDY
        assert tests[path.stem]["data"] == data_of_test(path), REMEDY


def test_the_licence_is_declared():
    assert 'licenses(["notice"])' in BUILD.read_text(encoding="utf-8")
    assert "Apache License" in (tree.ROOT / "LICENSE").read_text("utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write BUILD anew")
    if parser.parse_args().write:
        BUILD.write_text(render(), encoding="utf-8")
    else:
        parser.error("Nothing to do. Say --write to write BUILD anew.")
