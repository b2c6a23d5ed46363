"""The numbers of docs/results.md, made by the commands that stand beside them.

    python -m tests.results_table           tells which numbers are old
    python -m tests.results_table --write   puts the new ones into the page

Rows whose command is `python -c "..."` are done; the others take long.
`results_table_test.py` checks that the page has what the commands print.
"""

import contextlib
import io
import sys
from typing import NamedTuple

from tests import source_tree as tree

PAGE = tree.ROOT / "docs" / "results.md"
VERDICTS = ("reproduced", "trend only", "not yet", "contradicted")
_BEGIN, _END = '`python -c "', '"`'


class Row(NamedTuple):
    """A printed result, as the page has it."""

    where: str
    printed: str
    ours: str
    scale: str
    command: str
    verdict: str

    @property
    def code(self):
        """The Python that makes our number, or None."""
        if not self.command.startswith(_BEGIN):
            return None
        return self.command.removeprefix(_BEGIN).removesuffix(_END)

    def line(self):
        return f"| {' | '.join(self)} |"


def row_of(line):
    """The row of a line of the page, or None."""
    cells = line.strip("| ").split(" | ") if line.startswith("| ") else []
    if len(cells) != len(Row._fields) or cells[0] == "where":
        return None
    return Row(*cells)


def rows(text):
    """All rows of the page."""
    return [row for row in map(row_of, text.splitlines()) if row]


def number(code):
    """What a command prints, on one line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return "; ".join(out.getvalue().splitlines())


def with_numbers(text):
    """The page's text, with the numbers as they are now."""
    lines = []
    for line in text.splitlines():
        row = row_of(line)
        if row and row.code:
            line = row._replace(ours=number(row.code)).line()
        lines.append(line)
    return "\n".join(lines) + "\n"


def main(argv):
    """Tells what is old, or writes it anew."""
    text = PAGE.read_text(encoding="utf-8")
    new = with_numbers(text)
    if argv == ["--write"]:
        PAGE.write_text(new, encoding="utf-8")
        return 0
    for old, row in zip(rows(text), rows(new), strict=True):
        if old != row:
            print(f"{row.where}: {old.ours} is now {row.ours}")
    return int(new != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
