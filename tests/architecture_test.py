"""docs/architecture.md: the picture is the imports', the names are there."""

import ast
import collections
import importlib
import re

import pytest

from tests import architecture
from tests import source_tree as tree

TEXT = architecture.PAGE.read_text(encoding="utf-8")


def test_the_picture_is_as_the_imports_are():
    assert architecture.with_picture(TEXT) == TEXT, (
        "docs/architecture.md is older than the imports. Run: "
        "python -m tests.architecture --write"
    )


def test_the_arrows_say_all_that_the_imports_say():
    """What is left out of the picture can be read off it."""
    edges = architecture.imports()
    arrows = collections.defaultdict(set)
    for a, b in re.findall(r"^ +(\w+) --> (\w+)$", TEXT, re.M):
        arrows[a].add(b)
    assert sum(map(len, arrows.values())) < sum(map(len, edges.values()))
    for layer in tree.LAYERS:
        assert architecture.reached(layer, arrows) == (
            architecture.reached(layer, edges)
        ), layer
        assert set(arrows[layer]) <= tree.may_import(layer)


def test_an_arrow_that_follows_from_others_is_left_out():
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert architecture.direct(edges) == {**edges, "a": {"b", "d"}}


class Names:
    """What the package's files define, by their syntax."""

    def __init__(self):
        self.modules = {}  # dotted name, without the package: top names
        self.members = collections.defaultdict(set)  # of classes, by name
        self.bases = collections.defaultdict(set)
        for path in tree.package_files():
            parts = path.relative_to(tree.ROOT / tree.PACKAGE).parts
            parts = [part.removesuffix(".py") for part in parts]
            if parts[-1] == "__init__":
                parts.pop()
            body = tree.parse(path).body
            self.modules[".".join(parts)] = defined(body)
            for node in body:
                if isinstance(node, ast.ClassDef):
                    self.members[node.name] |= defined(node.body)
                    self.bases[node.name] |= {
                        ast.unparse(base).split(".")[-1] for base in node.bases
                    }

    def has_member(self, owner, name):
        """Whether a class or a base of it has something of a name."""
        return name in self.members.get(owner, ()) or any(
            self.has_member(base, name) for base in self.bases.get(owner, ())
        )

    def has(self, dotted):
        """Whether `Class.member`, `module.name`, `name` or a module is there.

        A module is named by the end of its dotted name.
        """
        owner, _, name = dotted.rpartition(".")
        if self.is_module(dotted) or self.has_member(owner, name):
            return True
        if owner:
            return any(
                name in self.modules[module] for module in self.found(owner)
            )
        return any(
            name in names
            for names in [*self.modules.values(), *self.members.values()]
        )

    def found(self, dotted):
        return [m for m in self.modules if f".{m}".endswith(f".{dotted}")]

    def is_module(self, dotted):
        return bool(self.found(dotted))


def defined(body):
    """Names of a module's or of a class' body, and what methods set."""
    names = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = getattr(node, "targets", None) or [node.target]
            names |= {
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            }
        if isinstance(node, ast.FunctionDef):
            names |= {
                inner.attr
                for inner in ast.walk(node)
                if isinstance(inner, ast.Attribute)
                and isinstance(inner.ctx, ast.Store)
                and ast.unparse(inner.value) == "self"
            }
    return names


NAMES = Names()
# Outside of the blocks, what is written as code and has no spaces in it.
SPANS = re.findall(
    r"`([^`\s]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)
)
OF_KERAS = {"model.fit", "fit", "train_step", "evaluate", "save"}


@pytest.mark.parametrize(
    "path", sorted({span for span in SPANS if "/" in span})
)
def test_a_file_is_there(path):
    assert any(
        (root / path).exists() for root in (tree.ROOT, tree.ROOT / tree.PACKAGE)
    )


@pytest.mark.parametrize(
    "name",
    sorted(
        span
        for span in set(SPANS) - OF_KERAS
        if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", span)
    ),
)
def test_a_name_is_there(name):
    assert NAMES.has(name), f"the package defines no {name}"


def test_every_span_is_one_or_the_other():
    odd = [s for s in SPANS if not re.fullmatch(r"[\w/.]+|\"\w+\"", s)]
    assert not odd


def test_files_and_names_of_a_row_belong_together():
    """`Class.member` in `path`: there it is."""
    found = re.findall(r"`([\w.]+)`(?: in|, in)\s+`([\w/]+\.py)`", TEXT)
    assert len(found) > 10
    for dotted, path in found:
        body = tree.parse(tree.ROOT / tree.PACKAGE / path).body
        assert dotted.split(".")[0] in defined(body) | {
            path.split("/")[-1].removesuffix(".py")
        }, (dotted, path)


@pytest.mark.parametrize(
    "name",
    ["Elastic.apples", "orders.jacobin", "Elastick", "CenterClient.eat"],
)
def test_a_name_that_is_not_there_is_found_out(name):
    assert not NAMES.has(name)


def test_of_keras_is_of_keras():
    keras = importlib.import_module("keras")
    for name in OF_KERAS:
        assert hasattr(keras.Model, name.removeprefix("model."))
