"""`make coverage`: the table, and the part of the tests that it runs."""

from tests import coverage_by_layer as coverage
from tests import source_tree as tree


def of_file(statements, covered):
    return {"summary": {"num_statements": statements, "covered_lines": covered}}


def test_files_are_summed_by_layer():
    report = {
        "files": {
            "tf_elastic/__init__.py": of_file(5, 5),
            "tf_elastic/core/a.py": of_file(10, 5),
            "tf_elastic/core/rules/b.py": of_file(30, 25),
            "tf_elastic/files.py": of_file(7, 0),
            "tf_elastic/models/__init__.py": of_file(0, 0),
        }
    }
    rows = coverage.by_layer(report)
    assert rows == [("files", 7, 0), ("core", 40, 30)]
    head, files, core, everything = coverage.table(rows).splitlines()
    assert head.split() == ["layer", "statements", "run"]
    assert files.split() == ["files", "7", "0", "0%"]
    assert core.split() == ["core", "40", "30", "75%"]
    assert everything.split() == ["all", "47", "30", "64%"]
    assert len({len(line) for line in (head, files, core, everything)}) == 1


def test_the_part_is_there():
    names = {path.stem.removesuffix("_test") for path in tree.test_files()}
    assert set(coverage.PART) <= names
