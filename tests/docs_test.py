"""The documents name what there is: pages, flags, functions, tests."""

import ast
import functools
import importlib
import re

import pytest

import tf_elastic as te
from tests import source_tree as tree
from tf_elastic.program import flag_table
from tf_elastic.program import known_methods

PAGES = [
    tree.ROOT / "README.md",
    tree.ROOT / "CHANGELOG.md",
    tree.ROOT / "CONTRIBUTING.md",
    *sorted((tree.ROOT / "docs").glob("*.md")),
]
BENCHMARKS = sorted((tree.ROOT / "benchmarks").glob("[a-z]*.py"))
SCRIPTS = [
    *BENCHMARKS,
    tree.ROOT / "benchmarks" / "gpu_check" / "__main__.py",
    tree.ROOT / "tests" / "architecture.py",
    tree.ROOT / "tests" / "chaos.py",
    *sorted((tree.ROOT / "tf_elastic").rglob("*.py")),
]
# Of other programs, and of the example in docs/methods.md.
FOREIGN = re.compile(
    r"--(nodes|ntasks|for|timeout|from-literal|rm|image|help|share)\b"
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@functools.cache
def text_of(page):
    return page.read_text(encoding="utf-8")


def code_of(page):
    """What stands in code: blocks, and pieces of a line."""
    text = text_of(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return blocks + re.findall(r"`([^`\n]+)`", rest)


def anchors(page):
    """The places of a page that a link may lead to, as GitHub names them."""
    rest = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    found = set()
    for title in re.findall(r"^#+ (.+)$", rest, re.M):
        plain = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@each_page
def test_a_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@functools.cache
def flags():
    """The flags of all programs that the package has."""
    own = {flag.name for flag in flag_table.all_flags()}
    for script in SCRIPTS:
        own |= set(re.findall(r'"--(\w+)"', text_of(script)))
        own |= set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text_of(script)))
    for script in BENCHMARKS:  # `bench.arguments(__doc__, rounds=5)`
        own |= set(re.findall(r"\b(\w+)=", text_of(script)))
    return own


@each_page
def test_a_flag_is_one(page):
    for code in code_of(page):
        for name in re.findall(r"(?<!\S)--([a-z][\w-]*)", code):
            if not FOREIGN.match(f"--{name}"):
                assert {name, name.removeprefix("no")} & flags(), name


def test_the_table_of_flags_is_what_the_program_takes():
    """docs/train.md, against what `train.py` refuses."""
    text = text_of(tree.ROOT / "docs" / "train.md")
    told = {}
    rows = re.compile(r"^\| (`[a-z_]+`.*) \| (?:any|1) \| (.*)\|$", re.M)
    for row in rows.findall(text):
        for name in re.findall(r"`(\w+)`", row[0]):
            told[name] = set(re.findall(r"`--(\w+)`", row[1]))
    [flag] = [f for f in flag_table.all_flags() if f.name == "optimizer"]
    assert list(told) == flag.kind.split("|")
    for name, flags_told in told.items():
        method = known_methods.all_methods()[name]
        assert flags_told == set(method.flags), name


@each_page
def test_a_name_of_the_package_is_there(page):
    for code in code_of(page):
        for dotted in re.findall(r"\b(?:te|tf_elastic)((?:\.\w+)+)", code):
            thing, names = te, dotted.split(".")[1:]
            if names[-1] in ("py", "md"):
                continue
            for i, name in enumerate(names):
                try:
                    thing = getattr(thing, name)
                except AttributeError:
                    path = ".".join(["tf_elastic", *names[: i + 1]])
                    thing = importlib.import_module(path)


@each_page
def test_an_example_is_python(page):
    pattern = re.compile(r"^ *```python\n(.*?)^ *```", re.M | re.S)
    for block in pattern.findall(text_of(page)):
        lines = block.splitlines()
        if ">>> " not in lines[0]:
            indent = min(len(x) - len(x.lstrip()) for x in lines if x.strip())
            ast.parse("\n".join(line[indent:] for line in lines))


@each_page
def test_a_command_of_make_is_one(page):
    makefile = text_of(tree.ROOT / "Makefile")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    for code in code_of(page):
        for name in re.findall(r"\bmake ([a-z][\w-]*)", code):
            assert name in targets, name


@each_page
def test_a_file_is_there(page):
    for code in code_of(page):
        for path in re.findall(
            r"\b(?:tf_elastic|tests|benchmarks|docs|deploy)/[\w/.*-]+\w", code
        ):
            assert list(tree.ROOT.glob(path)), path


@each_page
def test_a_test_is_there(page):
    sources = "\n".join(map(text_of, tree.test_files()))
    for name in re.findall(r"`(test_\w+)`", text_of(page)):
        assert f"def {name}(" in sources, name


@each_page
def test_a_variable_of_the_environment_is_read(page):
    sources = "\n".join(
        text_of(path)
        for path in [
            *tree.package_files(),
            *(p for p in (tree.ROOT / "deploy").rglob("*.*") if p.is_file()),
            tree.ROOT / "tests" / "devices.py",
            *tree.test_files(),
        ]
    )
    for name in re.findall(r"\bTF_ELASTIC_\w+", text_of(page)):
        assert name in sources, name
