"""No file of the package is long: one that is has more than one idea."""

import pytest

from tests import source_tree as tree

MOST = 400
# Longer still, and to be cut.
TOO_LONG = {
    "tf_elastic/program/flag_table.py",
    "tf_elastic/strategies/center_session.py",
    "tf_elastic/strategies/elastic_strategy.py",
    "tf_elastic/strategies/multi_worker_extended.py",
    "tf_elastic/strategies/variables.py",
}


@pytest.mark.parametrize("path", tree.package_files(), ids=tree.relative)
def test_a_file_is_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = tree.relative(path)
    if name in TOO_LONG:
        return
    assert lines <= MOST, (
        f"{name} has {lines} lines, at most {MOST} are allowed. Cut it by "
        "subject, into files of one idea each."
    )
