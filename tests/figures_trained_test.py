"""Figures of what is trained: from records that are made up, and from a try."""

import concurrent.futures
import itertools
import math

import numpy as np
import pytest

from tests.figures_test import check_files
from tf_elastic import figures
from tf_elastic.figures import __main__ as command
from tf_elastic.figures.trained import curves
from tf_elastic.figures.trained import levels
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained import scale
from tf_elastic.figures.trained import settings as known
from tf_elastic.figures.trained import side_by_side
from tf_elastic.figures.trained import tables
from tf_elastic.figures.trained import training
from tf_elastic.figures.trained.records import Record
from tf_elastic.figures.trained.settings import Setting

TRAINED = {n: f for n, f in figures.all_figures().items() if f.runs}


def looks(setting, errors, seconds=1.0, data="cifar10"):
    """Records of a run, whose loss is twice its error."""
    return [
        Record(
            **setting._asdict(),
            data=data,
            batch_size=128,
            step=step,
            local_steps=step * setting.workers,
            virtual_seconds=seconds * step,
            train_loss=2 * error,
            test_loss=2 * error,
            test_error=error,
            test_images=2000,
            goodput=1.0,
        )
        for step, error in enumerate(errors, 1)
    ]


def made_up(settings):
    """Runs whose error falls, the faster the more workers and the higher rate.

    One of them diverges.
    """
    found = {}
    for number, setting in enumerate(settings):
        rate = 0.05 + 0.01 * setting.workers + setting.learning_rate
        errors = [0.9 * math.exp(-rate * step) for step in range(12)]
        found[setting] = looks(setting, errors)
        if not number:
            found[setting][-1] = found[setting][-1]._replace(
                train_loss=math.nan
            )
    return found


# Settings.


def test_each_rate_of_the_tables_is_tried():
    """Tables 4.1 to 4.3, as printed."""
    printed = {
        "EASGD": {0.05, 0.01, 0.005},
        "EAMSGD": {0.01, 0.005, 0.001},
        "DOWNPOUR": {0.005, 0.001, 0.0005},
        "ADOWNPOUR": {0.005, 0.001, 0.0005},
        "MVADOWNPOUR": {0.005, 0.001, 0.0005},
        "MDOWNPOUR": {0.00005, 0.00001, 0.000005},
        "SGD": {0.05, 0.01, 0.005},
        "ASGD": {0.05, 0.01, 0.005},
        "MVASGD": {0.05, 0.01, 0.005},
        "MSGD": {0.001, 0.0005, 0.0001},
    }
    for name in ("thesis-4.1", "thesis-table-4.1"):
        tried = {}
        for setting in TRAINED[name].runs:
            tried.setdefault(setting.method, set()).add(setting.learning_rate)
            assert setting.period == 1
            alone = setting.method in known.SEQUENTIAL
            assert setting.workers == (1 if alone else 4)
        assert tried == printed
    [rate] = [
        setting.learning_rate
        for setting in TRAINED["thesis-4.9"].runs
        if setting.method == "DOWNPOUR"
    ]
    assert rate == 0.01  # with p = 8; 0.02 with 4


def test_periods_are_those_of_the_sections():
    of = {
        number: {s.period for s in TRAINED[f"thesis-4.{number}"].runs}
        for number in range(1, 14)
    }
    assert of[1] == {1} and of[2] == {1, 4} and of[4] == {1, 64}
    assert of[7] == of[5] == {1, 10}
    assert of[13] == {1, 10, 100, 1000}
    periods = {s.method: s.period for s in TRAINED["thesis-4.6"].runs}
    assert periods["EAMSGD"] == periods["EASGD"] == 10
    assert periods["DOWNPOUR"] == periods["MDOWNPOUR"] == 1


def test_trees_are_those_of_section_6_1_2():
    """Figures 6.3 to 6.10, as printed; six runs of each."""
    printed = {
        3: ("multi_scale", 10, 0.005, 0.0, "lowrank-single"),
        4: ("up_down", 8, 0.005, 0.0, "lowrank-single"),
        5: ("multi_scale", 1, 0.05, 0.0, "lowrank"),
        6: ("multi_scale", 1, 0.005, 0.9, "lowrank"),
        7: ("multi_scale", 1, 0.0005, 0.99, "lowrank"),
        8: ("up_down", 1, 0.05, 0.0, "lowrank"),
        9: ("up_down", 1, 0.005, 0.9, "lowrank"),
        10: ("up_down", 1, 0.0005, 0.99, "lowrank"),
    }
    for number, expected in printed.items():
        runs = TRAINED[f"thesis-6.{number}"].runs
        for setting in runs:
            method = known.ALL[setting.method]
            momentum = method.arguments.get("momentum", 0.0)
            assert expected == (
                method.scheme,
                setting.period,
                setting.learning_rate,
                momentum,
                setting.experiment,
            )
        for text, leaves, batch_size in (
            ("1", 256, 16),
            ("0.01", 16, 16),
            ("tiny", 4, 16),
        ):
            of = scale.of(text, runs[0].experiment)
            asked = [s for s in runs if scale.trains(of, s)]
            assert [s.seed for s in asked] == list(range(6))
            assert {s.workers for s in asked} == {leaves}
            alone = expected[-1] == "lowrank-single"
            assert of.batch_size == (1 if alone else batch_size)
    # 12 hours of 0.13 s, 3 hours of 0.01 s.
    assert scale.of("1", "lowrank").steps * 0.13 == pytest.approx(43_200, 0.01)
    single = scale.of("1", "lowrank-single")
    assert single.steps * 0.01 == pytest.approx(10_800, 0.01)


def test_trees_are_drawn_at_the_largest_scale_there_is():
    figure = TRAINED["thesis-6.12"]
    runs = made_up(figure.runs)
    table = figure.compute(runs)
    found = dict(zip(table["method"], table["workers"], strict=True))
    trees = {"Tree1-0": 256, "Tree2-0": 256}
    assert found == {"DOWNPOUR": 16, "EASGD": 16, **trees}
    smaller = {s: r for s, r in runs.items() if s.workers < 256}
    assert set(figure.compute(smaller)["workers"]) == {16}


def test_names_are_all_different():
    every = {s for figure in TRAINED.values() for s in figure.runs}
    assert len({setting.name for setting in every}) == len(every)


# Records.


def test_records_are_read_back(tmp_path):
    path = tmp_path / "new" / "runs.csv"
    assert records.read(path) == {}
    first = Setting("EAMSGD", 4, 10, 0.005)
    second = first._replace(learning_rate=1 / 3, decay=1e-4, seed=2)
    made = looks(first, [0.9, 0.1 + 0.2]) + looks(second, [0.5])
    for record in made:
        records.append(path, record)
    assert records.read(path) == {first: made[:2], second: made[2:]}


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"columns experiment, .*step, loss"):
        records.read(path)


def test_times_and_speed_ups():
    fast = Setting("EAMSGD", 4, 10, 0.005)
    slow = fast._replace(learning_rate=0.001)
    alone = Setting("MSGD", 1, 1, 0.001)
    other = Setting("SGD", 1, 1, 0.05)
    runs = {
        fast: looks(fast, [0.9, 0.5, 0.3]),
        slow: looks(slow, [0.4, 0.4, 0.4]),
        alone: looks(alone, [0.9, 0.6, 0.3], seconds=2.0),
        other: looks(other, [0.6, 0.5, 0.5], seconds=2.0),
    }
    assert records.time_to_level(runs[fast], 0.5) == 2.0
    assert records.time_to_level(runs[fast], 0.29) is None
    # The smallest error counts, not how soon.
    assert records.best(runs, [fast, slow]) == fast
    best = records.best_of_each(runs, runs)
    assert set(best.values()) == {fast, alone, other}
    at = records.fastest_sequential
    assert at(runs, best.values(), 0.6) == ("SGD", 2.0)
    assert at(runs, best.values(), 0.3) == ("MSGD", 6.0)
    assert at(runs, best.values(), 0.2) is None
    table = levels.times(runs, list(runs), [0.3])
    rows = (table["level"] == 0.3) & (table["method"] == "EAMSGD")
    assert table["speed_up"][rows] == [2.0]
    never = (table["level"] == 0.3) & (table["method"] == "SGD")
    assert np.isnan(table["seconds"][never])


def test_what_diverged_has_reached_nothing_after():
    setting = Setting("DOWNPOUR", 4, 64, 0.005)
    made = looks(setting, [0.9, 0.1])
    made[1] = made[1]._replace(train_loss=math.nan)
    assert made[1].diverged and records.smallest_error(made) == 0.9
    assert records.time_to_level(made, 0.2) is None


# Figures.


@pytest.mark.parametrize("name", TRAINED)
def test_a_figure_is_drawn_of_its_runs(name, tmp_path):
    figure = TRAINED[name]
    runs = made_up(figure.runs)
    table = figure.compute(runs)
    check_files(figure, table, *figures.write(figure, tmp_path, runs))
    assert len({column.shape for column in table.values()}) == 1


def test_a_curve_is_of_the_best_rate():
    figure = TRAINED["thesis-4.7"]
    table = figure.compute(made_up(figure.runs))
    for method in set(table["method"]):
        [rate] = set(table["learning_rate"][table["method"] == method])
        rates = known.METHODS[method].rates
        # The first of all diverges at its last look, and only then.
        assert rate == max(rates)
    assert {16, 1} == set(table["workers"])


def test_a_figure_without_runs_says_what_to_do():
    for name in ("thesis-4.5", "thesis-4.14"):
        with pytest.raises(ValueError, match="Give a --scale to train them"):
            TRAINED[name].compute({})


def test_table_4_4_is_near_what_is_printed():
    """As `virtual_presets_test` has it, of longer runs."""
    table = tables.seconds("cifar", tables.CIFAR_SECONDS)
    for kind, bound in (("computing", 1.1), ("communication", 1.2)):
        off = np.abs(table[kind] - table[f"printed_{kind}"])
        assert off.max() < bound


# The command line, and training.


def test_all_leaves_out_what_has_to_be_trained(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(
        figures, "write", lambda f, *_: drawn.append(f.name) or ("", "")
    )
    command.main(["all", "--out", str(tmp_path)])
    assert not set(drawn) & set(TRAINED)
    drawn.clear()
    command.main(["all", "--out", str(tmp_path), "--data=runs.csv"])
    assert drawn == list(figures.all_figures())


def test_wrong_arguments(tmp_path, capsys):
    for arguments, told in (
        (["--scale=2"], "The scale must be 'tiny', or a number in (0, 1]"),
        (["--scale=tony"], "Received: scale='tony'"),
        ([], "The file of runs has none of this figure"),
    ):
        with pytest.raises(SystemExit):
            command.main(["thesis-4.10", f"--out={tmp_path}", *arguments])
        assert told in " ".join(capsys.readouterr().err.split())


def small(steps):
    return scale.of("tiny")._replace(steps=steps, every=3, test_images=200)


@pytest.mark.full
def test_a_run_that_was_stopped_goes_on_to_the_bit(tmp_path):
    """Here with a larger scale, too."""
    setting = Setting("EAMSGD", 3, 2, 0.005, seed=1)
    whole, parts = (str(tmp_path / name / "runs.csv") for name in "ab")
    training.train(whole, setting, small(9))
    training.train(parts, setting, small(6), stop_at=0.0)
    [first] = records.read(parts)[setting]
    assert (first.step, first.local_steps, first.test_images) == (3, 9, 200)
    training.train(parts, setting, small(9))
    assert records.read(parts) == records.read(whole)
    seen = records.read(parts)[setting]
    assert [record.test_images for record in seen] == [200, 200, 360]
    training.train(parts, setting, small(9))  # It is done.
    assert records.read(parts) == {setting: seen}


def test_a_row_without_its_weights_is_not_written_twice(tmp_path, monkeypatch):
    setting = Setting("MSGD", 1, 1, 0.001)
    path = str(tmp_path / "runs.csv")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(path, setting, small(6))
    training.train(path, setting, small(6))
    assert [r.step for r in records.read(path)[setting]] == [3, 6]


def test_runs_of_other_data_are_not_mixed(tmp_path):
    setting = Setting("MSGD", 1, 1, 0.001)
    path = str(tmp_path / "runs.csv")
    records.append(path, looks(setting, [0.5])[0])
    with pytest.raises(ValueError, match="of the same data and batch size"):
        training.train(path, setting, small(3))


@pytest.mark.full
def test_processes_side_by_side(tmp_path):
    """Both write one file."""
    settings = [Setting("MSGD", 1, 1, rate) for rate in (0.001, 0.0005)]
    path = str(tmp_path / "runs.csv")
    side_by_side.train(
        path, dict.fromkeys(settings, small(3)), jobs=2, say=print
    )
    runs = records.read(path)
    assert set(runs) == set(settings)
    for seen in runs.values():
        assert [record.step for record in seen] == [3]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_left_to_do_is_done_in_order(jobs, tmp_path, monkeypatch):
    rates = (0.001, 0.0005, 0.0001)
    settings = [Setting("MSGD", 1, 1, rate) for rate in rates]
    path = str(tmp_path / "runs.csv")
    for setting, steps in ((settings[0], 2), (settings[1], 3)):
        for record in looks(setting, [0.5] * steps, data="digits"):
            records.append(path, record._replace(batch_size=32))
    begun = []
    monkeypatch.setattr(
        training, "train", lambda path, setting, *_, **__: begun.append(setting)
    )
    # In place of processes.
    monkeypatch.setattr(
        concurrent.futures,
        "ProcessPoolExecutor",
        lambda *_: concurrent.futures.ThreadPoolExecutor(1),
    )
    scales = dict.fromkeys(settings, small(3))
    side_by_side.train(path, scales, jobs=jobs, say=print)
    assert begun == [settings[0], settings[2]]
    begun.clear()
    side_by_side.train(path, scales, jobs=jobs, say=print, stop_at=0.0)
    assert not begun


@pytest.mark.full
@pytest.mark.parametrize(
    "setting",
    [
        next(known.settings([name], 2, experiment=experiment))
        for experiment, names in (
            ("cifar", known.METHODS),
            ("momentum", ["AsyncMSGD0.9"]),
        )
        for name in names
    ],
    ids=lambda setting: setting.name,
)
def test_each_method_is_trained(setting, tmp_path):
    path = str(tmp_path / "runs.csv")
    training.train(path, setting, small(3))
    [record] = records.read(path)[setting]
    assert record.local_steps == 3 * setting.workers
    assert 1 < record.train_loss < 3


def test_a_tree_is_trained(tmp_path):
    """Its six runs begin at one point, and go apart."""
    settings = [
        Setting("Tree2-0.9", 4, 1, 0.005, seed=seed, experiment=known.LOWRANK)
        for seed in range(2)
    ]
    asked = scale.of("tiny", known.LOWRANK)._replace(steps=3, every=3)
    first = [training.make_model(s, asked) for s in settings]
    for a, b in zip(*(m.get_weights() for m in first), strict=True):
        np.testing.assert_array_equal(a, b)
    path = str(tmp_path / "runs.csv")
    for setting in settings:
        training.train(path, setting, asked)
    looked = [one for each in records.read(path).values() for one in each]
    assert [(r.batch_size, r.local_steps) for r in looked] == [(16, 12)] * 2
    assert looked[0].train_loss != looked[1].train_loss
    # A step of chapter 6 takes 0.13 s.
    assert looked[0].virtual_seconds == pytest.approx(3 * 0.13, rel=0.2)


def test_imagenet_has_its_own_penalty_times_and_cuts(tmp_path):
    """Averages that begin at the first cut follow the worker until then."""
    [setting] = known.settings(["ASGD"], 4, experiment=known.IMAGENET)
    optimizer = training.make_optimizer(setting, 32)
    assert optimizer.average_from == "first_cut"
    path = str(tmp_path / "runs.csv")
    training.train(path, setting, small(6))
    seen = records.read(path)[setting]
    # A step of ImageNet takes 1.24 + 0.05 s, and there is nobody to wait for.
    assert seen[-1].virtual_seconds == pytest.approx(6 * 1.29, rel=0.1)
    assert (
        tmp_path / "runs.csv.weights" / f"{setting.name}.cuts.json"
    ).exists()


def test_the_momentum_papers_rates_fall_after_60_passes():
    [setting] = known.settings(["AsyncMSGD0.5"], 8, experiment=known.MOMENTUM)
    optimizer = training.make_optimizer(setting, 128)
    schedule = optimizer._learning_rate
    at = 60 * 40_000 // (8 * 128)
    assert float(schedule(at)) == pytest.approx(0.02)
    assert float(schedule(at + 1)) == pytest.approx(0.004)
    assert optimizer.momentum == 0.5


def test_lines_of_the_curves_differ():
    figure = TRAINED["thesis-4.13"]
    table = curves.curves(
        made_up(figure.runs), figure.runs, curves.all_there_are
    )
    lines = set(
        zip(table["method"], table["period"], table["decay"], strict=True)
    )
    assert len(lines) == len(figure.runs) == len(list(
        itertools.product(("EASGD", "EAMSGD"), (1, 10, 100, 1000), (0, 1e-4))
    ))  # fmt: skip
