"""What is installed for what: a missing extra is named in one sentence."""

import configparser
import subprocess
import sys

import pytest

import tf_elastic as te
from tests import source_tree as tree
from tf_elastic import extras
from tf_elastic.figures import __main__ as figures_main
from tf_elastic.program import checks
from tf_elastic.program import main
from tf_elastic.program import usage
from tf_elastic.rehearse import __main__ as rehearse_main
from tf_elastic.rehearse import plan_file


def distribution(package):
    """What is installed for a package."""
    return {"yaml": "pyyaml"}.get(package, package.replace("_", "-"))


@pytest.fixture(params=extras.EXTRAS)
def blocked(request, monkeypatch):
    """One that cannot be imported."""
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def test_the_table_is_that_of_setup_cfg():
    """Each extra brings its package, and `all` brings every one."""
    config = configparser.ConfigParser()
    config.read(tree.ROOT / "setup.cfg", encoding="utf-8")
    declared = config["options.extras_require"]
    for package, extra in extras.EXTRAS.items():
        assert declared[extra].split() == [distribution(package)]
    everything = {distribution(package) for package in extras.EXTRAS}
    assert set(declared["all"].split()) == everything
    for name in ("test", "dev"):
        assert everything <= set(declared[name].split())


def test_a_missing_one_is_named(blocked):
    with pytest.raises(extras.MissingExtraError) as error:
        extras.require(blocked, "This", "or do without")
    assert str(error.value) == (
        f"This needs `{blocked}`, which is not installed: pip install "
        f"'tf_elastic[{extras.EXTRAS[blocked]}]', or do without."
    )


def test_one_that_is_there_is_not_imported():
    """Whether it is there is asked before it costs seconds."""
    code = (
        "import sys\n"
        "from tf_elastic import extras\n"
        "for package in extras.EXTRAS:\n"
        "    extras.require(package, 'This')\n"
        "assert not set(extras.EXTRAS) & set(sys.modules), sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr


def of_the_package(blocked, folder):
    """Does what needs a package, by the package's own functions."""
    if blocked == "matplotlib":
        te.monitor.plot_history({"loss": [1.0]}, folder / "run.png")
    elif blocked == "tensorboard":
        te.callbacks.ElasticMonitor(log_dir=folder / "log")
    elif blocked == "yaml":
        plan_file.read(str(folder / "plan.yaml"))
    else:
        te.data.load("cifar10", data_dir=folder)


def test_the_package_names_it(blocked, tmp_path):
    with pytest.raises(ImportError) as error:
        of_the_package(blocked, tmp_path)
    assert f"'tf_elastic[{extras.EXTRAS[blocked]}]'" in str(error.value)
    assert str(error.value).count(". ") == 0
    assert not list(tmp_path.iterdir())


FLAGS = {
    "matplotlib": "--plot=run.png",
    "tensorboard": "--logdir=log",
    "tensorflow_datasets": "--dataset=cifar10",
}


@pytest.mark.parametrize("blocked", FLAGS, indirect=True)
def test_the_program_names_it_before_it_begins(blocked, capsys):
    flag = FLAGS[blocked]
    assert main.main(["train.py", flag], "") == 2
    told = capsys.readouterr().err
    assert flag.split("=")[0] in told
    assert f"'tf_elastic[{extras.EXTRAS[blocked]}]'" in told
    assert "Traceback" not in told


def test_a_rehearsal_names_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert rehearse_main.main(["plan.yaml"]) == 2
    told = capsys.readouterr().err
    assert "'tf_elastic[rehearse]', or write it as JSON." in told


def test_the_figures_name_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as ended:
        figures_main.main(["all", f"--out={tmp_path}"])
    assert ended.value.code == 2
    assert "'tf_elastic[plots]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


WITHOUT = """
import sys

looked_for = []


class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name in {blocked}:
            looked_for.append(name)
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NotInstalled)
import keras
import numpy as np
import tf_elastic as te

with te.strategies.ElasticMirroredStrategy(["CPU:0"]).scope():
    model = keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(),
                              keras.layers.Dense(10)])
    model.compile(te.optimizers.EAMSGD(0.05, communication_period=2),
                  loss=keras.losses.SparseCategoricalCrossentropy(True))
train = te.data.load("digits", "train", steps_per_epoch=4, seed=1)
history = model.fit(train, verbose=0, callbacks=[te.callbacks.ElasticMonitor()])
assert np.isfinite(history.history["worker_loss"]).all()
assert {{te.core, te.figures, te.models, te.theory}}
# Digits are read without it where it is installed, too.
assert "tensorflow_datasets" not in looked_for, looked_for
"""


def test_training_does_without_all_of_them():
    code = WITHOUT.format(blocked=list(extras.EXTRAS))
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


def test_a_flag_that_needs_nothing_is_not_refused(monkeypatch):
    for package in extras.EXTRAS:
        monkeypatch.setitem(sys.modules, package, None)
    settings = dict.fromkeys(
        ("data_dir", "logdir", "model_dir", "plot", "report", "events")
    )
    checks.check_files({**settings, "dataset": "digits", "download": False})
    with pytest.raises(usage.UsageError, match="leave --plot out"):
        checks.check_files(
            {
                **settings,
                "plot": "run.png",
                "dataset": "digits",
                "download": False,
            }
        )
