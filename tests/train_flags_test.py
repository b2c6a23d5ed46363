"""train.py's flags: what they mean, and what is said of wrong ones."""

import json
import subprocess
import sys

import pytest

import train
from tests import source_tree as tree
from tf_elastic.program import command_line
from tf_elastic.program import devices
from tf_elastic.program import settings
from tf_elastic.program import usage


def parse(*args):
    return settings.parse(["train.py", *args])


# (flags, parts of the message)
WRONG = [
    # Unknown flags and values.
    ("--momentun=0.9", ["momentun", "Did you mean", "--help"]),
    ("--workers=many", ["workers", "many"]),
    ("--dataset=mnist", ["mnist", "digits|cifar10|cifar100"]),
    ("--optimizer=adam", ["adam", "eamsgd|easgd|elastic"]),
    ("--exchange=star", ["star", "jacobi|gauss_seidel|round_robin"]),
    ("digits", ["Only flags", "Received: digits", "--name=value"]),
    # Flags that would be ignored.
    ("--optimizer=easgd --momentum=0.9", ["no momentum", "eamsgd"]),
    ("--optimizer=elastic --nonesterov", ["--nesterov", "no momentum"]),
    ("--inner_optimizer=sgd", ["has none inside", "--optimizer=elastic"]),
    ("--averaging_rate=0.1", ["has none", "--optimizer=mvasgd"]),
    ("--optimizer=asgd --workers=4", ["sequential", "--workers=1"]),
    ("--optimizer=mvasgd --beta=0.5", ["sequential", "--optimizer=easgd"]),
    ("--optimizer=asgd --communication_period=5", ["averages at every step"]),
    ("--strategy=mirrored --exchange=jacobi", ["nothing is exchanged"]),
    ("--strategy=mirrored --optimizer=easgd", ["Keras' SGD"]),
    ("--strategy=mirrored --beta=0.5", ["--beta has no effect here"]),
    ("--data_dir=somewhere", ["come with the package", "--dataset=cifar10"]),
    ("--download", ["come with the package"]),
    # Values out of range.
    ("--workers=0", ["--workers must be at least 1", "--workers=0"]),
    ("--learning_rate=-1", ["--learning_rate must be", "at least 0"]),
    ("--learning_rate=nan", ["--learning_rate must be"]),
    ("--learning_rate_decay=-1", ["--learning_rate_decay must be"]),
    ("--momentum=1", ["--momentum must be in [0, 1)"]),
    ("--beta=-0.1", ["--beta must be"]),
    ("--moving_rate=inf", ["--moving_rate must be finite"]),
    ("--communication_period=0", ["at least 1", "none", "default is 10"]),
    ("--communication_period=often", ["Received", "often"]),
    ("--optimizer=mvasgd --averaging_rate=0", ["in (0, 1]"]),
    ("--weight_decay=-1", ["--weight_decay must be"]),
    ("--clipnorm=0", ["--clipnorm must be more than 0"]),
    ("--gradient_accumulation_steps=1", ["at least 2"]),
    ("--batch_size=0", ["from 1 to 1437"]),
    ("--batch_size=2000", ["from 1 to 1437", "--batch_size=2000"]),
    ("--epochs=0", ["--epochs must be at least 1"]),
    ("--steps_per_epoch=0", ["--steps_per_epoch must be"]),
    ("--steps_per_execution=0", ["--steps_per_execution must be"]),
    ("--seed=-1", ["--seed must be"]),
    # Flags against each other.
    (
        "--beta=0.9 --moving_rate=0.5",
        ["--beta must equal", "4 workers", "--beta=2", "--nosymmetric"],
    ),
    ("--nosymmetric --beta=0.9", ["needs both"]),
    (
        "--gradient_accumulation_steps=2 --mixed_precision=float16",
        ["--mixed_precision=bfloat16"],
    ),
    # Files.
    ("--resume", ["--resume needs --model_dir"]),
    ("--resume --model_dir={tmp}/no", ["must hold a run", "settings.json"]),
    ("--model_dir={tmp}/old", ["holds a run already", "--resume"]),
    ("--dataset=cifar10 --data_dir={tmp}", ["'cifar10'", "--download"]),
    ("--dataset=cifar100 --data_dir={tmp}/no", ["'cifar100'", "digits"]),
    ("--plot={tmp}/run.pdf", ["end in .png"]),
]


@pytest.mark.parametrize(("args", "parts"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_flag_says_what_to_do(args, parts, tmp_path, capsys):
    (tmp_path / "old" / "backup").mkdir(parents=True)
    argv = ["train.py", *args.format(tmp=tmp_path).split()]
    assert train.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("train.py: ")
    for part in parts:
        assert part in err


def test_wrong_flags_are_told_without_tensorflow():
    code = (
        "import sys, train\n"
        "assert train.main(['train.py', '--workers=0']) == 2\n"
        "assert train.main(['train.py', '--help']) == 0\n"
        "slow = {'tensorflow', 'keras', 'numpy', 'matplotlib'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


def run_python(*args):
    return subprocess.run(
        [sys.executable, *args],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_exit_status_of_the_program():
    result = run_python("train.py", "--optimizer=asgd", "--workers=4")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_help_names_every_flag():
    result = run_python("train.py", "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    text = result.stdout
    assert text.count("python train.py") >= 3
    for group in ("Data", "Workers", "Method", "Length", "Files and output"):
        assert f"\n{group}:\n" in text
    values = command_line.define_flags()
    for name in values:
        assert f"\n  --{name}=" in text or f"\n  --[no]{name}\n" in text
        assert "(default: " in text
    assert "None" not in text
    assert "helpfull" not in text


def test_the_examples_of_the_help_are_right(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tensorflow_datasets" / "cifar10").mkdir(parents=True)
    examples = [
        line.split()
        for line in train.__doc__.splitlines()
        if line.strip().startswith("python train.py")
    ]
    assert len(examples) == 3
    for _, *argv in examples:
        settings.parse(argv)


def test_defaults_depend_on_the_data_set(tmp_path):
    digits = parse()
    assert digits["workers"] == 4
    assert digits["optimizer"] == "eamsgd"
    assert digits["steps_per_epoch"] == 1437 // digits["batch_size"]
    (tmp_path / "cifar10").mkdir()
    cifar = parse("--dataset=cifar10", f"--data_dir={tmp_path}")
    assert (cifar["learning_rate"], cifar["momentum"]) == (0.005, 0.99)
    assert cifar["batch_size"] == 128
    assert cifar["steps_per_epoch"] == 50_000 // 128


def test_sequential_methods_have_one_worker():
    assert parse("--optimizer=asgd")["workers"] == 1
    assert parse("--strategy=mirrored")["workers"] == 4


def test_rates_that_agree_and_rates_that_need_not():
    assert parse("--beta=0.8", "--moving_rate=0.2")["moving_rate"] == 0.2
    free = parse("--beta=0.9", "--moving_rate=0.5", "--nosymmetric")
    assert not free["symmetric"]


def test_flags_from_a_file(tmp_path):
    path = tmp_path / "flags"
    path.write_text("--workers=2\n# a comment\n--beta=0.5\n")
    read = parse(f"--flagfile={path}")
    assert (read["workers"], read["beta"]) == (2, 0.5)


def test_a_resumed_run_keeps_its_settings(tmp_path, capsys):
    before = parse("--workers=2", "--beta=0.5", "--epochs=3", "--verbose=0")
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(before))
    resume = ("--resume", f"--model_dir={tmp_path}")
    after = parse(*resume, "--epochs=9")
    assert (after["workers"], after["beta"], after["epochs"]) == (2, 0.5, 9)
    assert after["resume"] and after["verbose"] == "2"
    assert parse(*resume, "--workers=2") == {**after, "epochs": 3}

    argv = ["train.py", *resume, "--learning_rate=1"]
    assert train.main(argv) == 2
    error = capsys.readouterr().err
    assert "--learning_rate=0.05" in error and "--learning_rate=1.0" in error
    assert train.main(["train.py", *resume, "--moving_rate=0.1"]) == 2
    assert "begun without --moving_rate" in capsys.readouterr().err

    path.write_text("{")
    assert train.main(["train.py", *resume]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


def test_memory_of_a_gpu_is_shared_out():
    assert devices.split_memory_mb(10_000, 4) == 2250
    assert devices.split_memory_mb(10_000, 1) == 9000


def test_a_gpu_whose_memory_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(usage.UsageError, match="Give --gpu_memory_mb"):
        devices.free_gpu_memory_mb()
