"""`figures`: every figure of the catalog is computed, drawn and written."""

import csv
import functools
import os
import subprocess
import sys

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

from tf_elastic import figures
from tf_elastic.figures import __main__ as command
from tf_elastic.figures import catalog
from tf_elastic.figures import drawing

# Every figure of chapters 3 to 6, and those of the other papers.
NAMES = (
    *(f"thesis-3.{number}" for number in range(1, 4)),
    *(f"thesis-4.{number}" for number in range(1, 16)),
    *(f"thesis-table-4.{number}" for number in range(1, 4)),
    "thesis-table-4.4-cifar",
    "thesis-table-4.4-imagenet",
    *(f"thesis-5.{number}" for number in range(1, 21)),
    *(f"thesis-6.{number}" for number in range(1, 13)),
    "momentum-1",
    "momentum-2",
    "sdde-1",
)
# See `figures_trained_test`.
TRAINED = {
    name for name, figure in figures.all_figures().items() if figure.runs
}
# At full size it takes most of a minute: see the tests of its own module.
SLOW = "momentum-1"
# An endless time, and the error that diverges by then.
INFINITE = (("thesis-3.1", "t"), ("thesis-3.1", "mse"))
SIMULATED = ("thesis-3.3", "thesis-5.3", "thesis-5.7", "sdde-1")


def tiny(name, column=(1.0, 0.1 + 0.2, np.nan, 1e-300)):
    """A figure that costs nothing."""
    return figures.Figure(
        name,
        "A line.",
        lambda: {"x": np.array(column), "n": np.arange(len(column))},
        lambda table, figure: figure.subplots().plot(table["x"]),
        size=(3.0, 2.0),
    )


@functools.cache
def computed(name):
    """A figure of the catalog, computed once for several tests."""
    return figures.all_figures()[name].compute()


def read_back(path):
    """The columns of a CSV file, as text."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def check_files(figure, table, picture, numbers):
    """That PNG and CSV are of this figure, with these numbers."""
    assert os.path.basename(picture) == f"{figure.name}.png"
    assert os.path.basename(numbers) == f"{figure.name}.csv"
    columns = read_back(numbers)
    assert list(columns) == list(table)
    for name, column in table.items():
        if np.issubdtype(column.dtype, np.number):
            np.testing.assert_array_equal(
                np.array([float(text) for text in columns[name]]), column
            )
        else:
            assert columns[name] == tuple(str(value) for value in column)
    pixels = matplotlib.image.imread(picture)
    width, height = np.array(figure.size) * 120
    assert abs(pixels.shape[1] - width) <= 1
    assert abs(pixels.shape[0] - height) <= 1
    gray = pixels[..., :3].mean(axis=-1)
    assert gray.min() < 0.3 and gray.max() > 0.99  # axes on white


# The catalog.


def test_the_catalog_has_every_figure_in_the_order_of_the_papers():
    assert tuple(figures.all_figures()) == NAMES


def test_each_figure_says_what_it_is():
    for name, figure in figures.all_figures().items():
        assert figure.name == name
        assert len(figure.caption) > 20 and "\n" not in figure.caption
        assert 3 <= min(figure.size) and max(figure.size) <= 16


def test_two_figures_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(catalog, "_MODULES", ("nonconvex", "nonconvex"))
    with pytest.raises(ValueError, match=r"named 'thesis-5\.20'"):
        catalog.all_figures()


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in {SLOW, *TRAINED}]
)
def test_a_figure_is_computed_drawn_and_written(name, tmp_path):
    figure = figures.all_figures()[name]
    table = computed(name)
    lengths = {column.shape for column in table.values()}
    assert len(lengths) == 1, {n: c.shape for n, c in table.items()}
    ((length,),) = lengths
    assert length > 1
    for label, column in table.items():
        if np.issubdtype(column.dtype, np.number):
            assert not np.iscomplexobj(column), label
            assert np.any(np.isfinite(column)), label
            assert np.any(np.isinf(column)) == ((name, label) in INFINITE)
    files = figures.write(
        figure._replace(compute=lambda: table), tmp_path / "new" / "folder"
    )
    check_files(figure, table, *files)


@pytest.mark.parametrize("name", SIMULATED)
def test_a_simulation_can_be_repeated(name):
    first, second = computed(name), figures.all_figures()[name].compute()
    for column in first:
        np.testing.assert_array_equal(first[column], second[column])


# Writing.


def test_what_is_written_is_read_back_in_full(tmp_path):
    figure = tiny("tiny")
    files = figures.write(figure, tmp_path)
    check_files(figure, figure.compute(), *files)
    assert sorted(os.listdir(tmp_path)) == ["tiny.csv", "tiny.png"]


def test_columns_of_unequal_length_are_refused(tmp_path):
    figure = tiny("tiny")._replace(
        compute=lambda: {"x": np.zeros(2), "y": np.zeros(3)}
    )
    with pytest.raises(ValueError, match="shorter|longer"):
        figures.write(figure, tmp_path)


# Drawing.


def test_a_heat_map_has_each_value_in_its_place():
    """Whatever the order of the rows; what is missing stays empty."""
    x, y = np.array([0.0, 1.0, 3.0]), np.array([[10.0], [20.0]])
    table = drawing.grid_table(x=x, y=y, value=x + y)
    order = np.array([4, 1, 5, 0, 2])  # without the fourth, x = 0 and y = 20
    table = {name: column[order] for name, column in table.items()}
    canvas = matplotlib.figure.Figure()
    axes = drawing.heat_map(
        table, canvas, "x", "y", "value", labels=("across", "up"),
        limits=(0, 30),
    )  # fmt: skip
    (mesh,) = axes.collections
    shown = np.ma.filled(mesh.get_array(), np.nan).reshape(2, 3)
    np.testing.assert_array_equal(shown, [[10, 11, 13], [np.nan, 21, 23]])
    assert mesh.get_cmap().name == drawing.COLOR_MAP == "jet"
    assert mesh.get_clim() == (0, 30)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "up")


# The command line.


def test_the_list_names_every_figure(capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines) == NAMES
    for line, figure in zip(lines, figures.all_figures().values(), strict=True):
        assert line.endswith(figure.caption)


def test_a_name_draws_that_figure(tmp_path, capsys):
    assert command.main(["thesis-5.20", "--out", str(tmp_path)]) == 0
    assert sorted(os.listdir(tmp_path)) == [
        "thesis-5.20.csv",
        "thesis-5.20.png",
    ]
    assert str(tmp_path / "thesis-5.20.png") in capsys.readouterr().out


def test_all_draws_all_and_names_may_be_several(monkeypatch, tmp_path, capsys):
    known = {name: tiny(name) for name in ("one-1", "one-2", "two-1")}
    monkeypatch.setattr(figures, "all_figures", lambda: known)
    assert command.main(["all", "--out", str(tmp_path / "all")]) == 0
    assert len(os.listdir(tmp_path / "all")) == 6
    assert len(capsys.readouterr().out.splitlines()) == 3
    arguments = ["two-1", "one-1", "--out", str(tmp_path / "two")]
    assert command.main(arguments) == 0
    assert sorted(os.listdir(tmp_path / "two")) == [
        "one-1.csv",
        "one-1.png",
        "two-1.csv",
        "two-1.png",
    ]


def test_an_unknown_name_is_refused_before_anything_is_drawn(tmp_path, capsys):
    arguments = ["thesis-5.20", "thesis-9.9", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "NAME must be one of thesis-3.1, thesis-3.2" in message
    assert "or 'all'. Received: 'thesis-9.9'." in message
    assert not os.listdir(tmp_path)


def test_no_name_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert "--list" in capsys.readouterr().err


def test_it_runs_as_a_program(tmp_path):
    """Its exit status is that of `main`."""
    for arguments, status in (
        (["thesis-5.20", "--out", str(tmp_path)], 0),
        (["no-such"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tf_elastic.figures", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert ("Received: 'no-such'" in done.stderr) == (status == 2)
    assert (tmp_path / "thesis-5.20.png").exists()
