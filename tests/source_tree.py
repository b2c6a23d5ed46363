"""What the sources say of themselves: files, layers and imports.

Shared by the tests of the layers and of the BUILD file. Reads files, imports
nothing of the package, and needs the standard library only.
"""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "tf_elastic"

# Lowest first. A layer is a folder or a module directly under the package.
LAYERS = (
    "version",
    "supported",
    "extras",
    "files",
    "user_code",
    "compat",
    "core",
    "theory",
    "timeline",
    "optimizers",
    "cluster",
    "strategies",
    "models",
    "data",
    "monitor",
    "callbacks",
    "figures",
    "program",
    "rehearse",
)

# The one module that writes to the terminal.
CONSOLE = f"{PACKAGE}/program/console.py"

# A layer may import any lower one, but for these, which may import less.
_NARROWER = {
    "core": ("files",),
    "theory": ("files", "core"),
    "timeline": ("extras", "files", "core"),
    "models": ("version", "compat"),
    "data": ("version", "compat", "extras", "files"),
}


def may_import(layer):
    """The layers that `layer` may import, itself aside."""
    if layer in _NARROWER:
        return set(_NARROWER[layer])
    return set(LAYERS[: LAYERS.index(layer)])


def relative(path):
    """`path` as it is named in BUILD and in messages."""
    return path.relative_to(ROOT).as_posix()


def package_files():
    """Every module of the package, sorted."""
    return sorted((ROOT / PACKAGE).rglob("*.py"))


def test_files():
    """Every file of tests, sorted."""
    return sorted((ROOT / "tests").rglob("*_test.py"))


def test_support_files():
    """Every other module under tests/, sorted."""
    return sorted(set((ROOT / "tests").rglob("*.py")) - set(test_files()))


def of_each(paths):
    """Makes a check of one file a test of many, which tells of all at once.

    One test, as thousands of short ones would take longer than all checks.
    """

    def decorate(check):
        def test():
            wrong = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    wrong.append(f"{relative(path)}: {error}")
            assert paths and not wrong, "\n\n".join(wrong)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


def layer_of_file(path):
    """The layer that a module of the package is in; `PACKAGE` for the root."""
    first = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    return PACKAGE if first == "__init__" else first


def layer_of_name(name):
    """The layer of a dotted name under the package; `PACKAGE` for the root."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1] in LAYERS:
        return parts[1]
    return PACKAGE


def parse(path):
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(path):
    """(line, dotted name) of what a file imports, in functions too.

    `from a import b` counts as `a.b`, whether b is a module or not, and
    `import_module("a.b")` as `a.b`.
    """
    names = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parent.parts
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            names += [
                (node.lineno, f"{base}.{alias.name}") for alias in node.names
            ]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1]
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names.append((node.lineno, str(node.args[0].value)))
    return names


def imported_layers(path):
    """The layers of the package that a file imports."""
    return {
        layer_of_name(name)
        for _, name in imported_names(path)
        if name.split(".")[0] == PACKAGE
    }
