"""docs/results.md: every printed result is there, and the numbers are ours."""

import re

import pytest

from tests import results_table
from tests import source_tree as tree
from tf_elastic import figures

TEXT = results_table.PAGE.read_text(encoding="utf-8")
ROWS = results_table.rows(TEXT)
COMPUTED = [row for row in ROWS if row.code]


@pytest.mark.parametrize("row", COMPUTED, ids=lambda row: row.where)
def test_the_number_is_what_the_command_prints(row):
    assert row.ours == results_table.number(row.code), (
        "docs/results.md is older than the package. Run: "
        "python -m tests.results_table --write"
    )


def test_every_printed_result_has_a_row():
    named = " ".join(row.where for row in ROWS)
    expected = [
        *(f"Figure 3.{i}" for i in range(1, 4)),
        *(f"Table 4.{i}" for i in range(1, 5)),
        *(f"Figure 4.{i}" for i in range(1, 16)),
        *(f"Figure 5.{i}" for i in range(1, 21)),
        *(f"Figure 6.{i}" for i in range(3, 13)),
        *("Theorem 6.2.1", "momentum, Figure 1", "momentum, Figure 2"),
        *("SDDE, Figure 1", "SDDE, Theorem 3.2", "SDDE, Theorem 3.4"),
        *("SDDE, Theorem 4.1", "SDDE, Theorem 4.2"),
    ]
    for name in expected:
        assert re.search(rf"{re.escape(name)}(?!\d)", named), name


def test_each_verdict_is_one_of_four():
    assert len(ROWS) > 60
    for row in ROWS:
        verdict = row.verdict.split(":")[0]
        assert verdict in results_table.VERDICTS, row
        if verdict == "contradicted":  # And how.
            assert len(row.verdict) > 40, row.where
        assert (verdict == "not yet") == (row.ours == "-"), row.where


def test_each_command_names_what_there_is():
    """Names of tests are looked up in `docs_test.py`."""
    known = figures.all_figures()
    for row in ROWS:
        for name in re.findall(
            r"-m tf_elastic\.figures ([\w.-]+)", row.command
        ):
            assert name in known, row.where
        for path in re.findall(r"(tests/\w+\.py)", row.command):
            assert (tree.ROOT / path).exists(), row.where


def test_a_number_that_is_old_is_written_anew(tmp_path, monkeypatch, capsys):
    page = tmp_path / "results.md"
    row = results_table.Row(
        *("a", "2", "1", "exact", '`python -c "print(1 + 1)"`', "reproduced")
    )
    page.write_text(f"# Title\n\n{row.line()}\nx\n")
    monkeypatch.setattr(results_table, "PAGE", page)
    assert results_table.main([]) == 1
    assert capsys.readouterr().out == "a: 1 is now 2\n"
    assert results_table.main(["--write"]) == 0
    assert (
        page.read_text() == f"# Title\n\n{row._replace(ours='2').line()}\nx\n"
    )
    assert results_table.main([]) == 0
