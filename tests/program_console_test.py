"""What `--status` shows: the chief's output, a live table, the result."""

import re
import sys

import pytest

from tf_elastic.program import console

RULE = 30 * "-"


def screen(printed):
    """What a terminal shows, which knows the two sequences that are used."""
    lines = [""]
    for part in re.split("(\033\\[\\d+A\033\\[J|\n)", printed):
        if part == "\n":
            lines.append("")
        elif part.startswith("\033"):
            del lines[-int(re.findall(r"\d+", part)[0]) - 1 :]
            lines.append("")
        else:
            lines[-1] += part
    return lines[:-1]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_chiefs_output_is_above_and_the_result_last(
    is_terminal, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    board = console.Board()
    printed = ""

    def seen():
        nonlocal printed
        printed += capsys.readouterr().out
        return screen(printed) if is_terminal else printed.splitlines()

    board.write("Epoch 1/2\nstep")
    assert seen() == ["Epoch 1/2"]
    board.show("worker\n1")
    board.write(" 7\nEpoch 2/2\n")
    above = ["Epoch 1/2", "step 7", "Epoch 2/2"]
    if is_terminal:
        assert seen() == [*above, "worker", "1"]
    board.show("worker\n2 " + 50 * "x")
    board.write(f"{RULE}\ncenter test error 3 %\n{RULE}\n")
    board.show("worker\n3")
    assert "center test error 3 %" not in seen()
    board.close()
    board.close()
    result = ["worker", "3", RULE, "center test error 3 %", RULE]
    assert seen()[-5:] == result
    if is_terminal:
        assert seen() == [*above, *result]


def test_what_has_no_end_is_not_lost(capsys):
    board = console.Board()
    board.write("died in the mid")
    board.close()
    assert capsys.readouterr().out == "died in the mid\n"
