"""No file of the package is long: one that is has more than one idea."""

import pytest

from tests import source_tree as tree

MOST = 400


@pytest.mark.parametrize("path", tree.package_files(), ids=tree.relative)
def test_a_file_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST, (
        f"{tree.relative(path)} has {lines} lines, at most {MOST} are "
        "allowed. Cut it by subject, into files of one idea each."
    )
