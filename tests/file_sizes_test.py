"""No file of the package is long: one that is has more than one idea."""

from tests import source_tree as tree

MOST = 400


@tree.of_each(tree.package_files())
def test_a_file_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST, (
        f"{tree.relative(path)} has {lines} lines, at most {MOST} are "
        "allowed. Cut it by subject, into files of one idea each."
    )
