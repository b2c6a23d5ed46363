"""train.py's flags: what they mean, and what is said of wrong ones."""

import json
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train
from tests import source_tree as tree
from tests.drawing import examples
from tf_elastic.program import building
from tf_elastic.program import command_line
from tf_elastic.program import devices
from tf_elastic.program import flag_table
from tf_elastic.program import launching
from tf_elastic.program import settings
from tf_elastic.program import usage
from tf_elastic.program.virtual_checks import read_timing
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual.presets import PRESETS
from tf_elastic.timeline.virtual.presets import preset


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


def parse(*args):
    return settings.parse(["train.py", *args])


def tf_config(role="worker", index=0, workers=2, centers=1):
    """TF_CONFIG of one process of a cluster."""
    cluster = {
        "worker": [f"10.0.0.{i + 1}:2222" for i in range(workers)],
        "ps": [f"10.0.1.{i + 1}:2222" for i in range(centers)],
    }
    return json.dumps(
        {"cluster": cluster, "task": {"type": role, "index": index}}
    )


# (flags, parts of the message)
WRONG = [
    # Unknown flags and values.
    ("--momentun=0.9", ["momentun", "Did you mean", "--help"]),
    ("--workers=many", ["workers", "many"]),
    ("--dataset=mnist", ["mnist", "digits|cifar10|cifar100"]),
    ("--optimizer=adam", ["adam", "easgd|eamsgd|elastic"]),
    ("--order=star", ["star", "jacobi|gauss_seidel|round_robin"]),
    ("digits", ["Only flags", "Received: digits", "--name=value"]),
    # Flags that would be ignored.
    ("--optimizer=easgd --momentum=0.9", ["no momentum", "eamsgd"]),
    ("--optimizer=elastic --nonesterov", ["--nesterov", "no momentum"]),
    ("--inner_optimizer=sgd", ["has none inside", "--optimizer=elastic"]),
    ("--averaging_rate=0.1", ["has none", "--optimizer=moving_average_sgd"]),
    ("--optimizer=downpour --momentum=0.9", ["no momentum", "=eamsgd"]),
    ("--optimizer=downpour --beta=0.9", ["no elastic rates", "=easgd"]),
    ("--optimizer=mdownpour --communication_period=4", ["every step"]),
    (
        "--optimizer=async_msgd --weight_decay=0.1",
        ["has none: what is sent is a gradient", "--optimizer=easgd"],
    ),
    (
        "--optimizer=local_sgd --order=jacobi",
        ["no --order=jacobi", "mean over all", "--order=gauss_seidel"],
    ),
    ("--optimizer=diloco --staleness_scaling", ["=async_msgd"]),
    ("--outer_momentum=0.5", ["has none", "--optimizer=diloco"]),
    ("--elasticity=2", ["has none", "--optimizer=admm"]),
    ("--optimizer=averaged_sgd --workers=4", ["sequential", "--workers=1"]),
    (
        "--optimizer=moving_average_sgd --beta=0.5",
        ["sequential", "--optimizer=easgd"],
    ),
    (
        "--optimizer=averaged_sgd --communication_period=5",
        ["one worker shares"],
    ),
    ("--strategy=mirrored --order=jacobi", ["nothing is exchanged"]),
    ("--strategy=mirrored --optimizer=easgd", ["Keras' SGD"]),
    ("--strategy=mirrored --beta=0.5", ["--beta has no effect here"]),
    ("--data_dir=somewhere", ["come with the package", "--dataset=cifar10"]),
    ("--download", ["come with the package"]),
    # Values out of range.
    ("--workers=0", ["--workers must be at least 1", "--workers=0"]),
    ("--learning_rate=-1", ["--learning_rate must be", "at least 0"]),
    ("--learning_rate=nan", ["--learning_rate must be"]),
    ("--learning_rate_decay=-1", ["--learning_rate_decay must be"]),
    *(
        (f"--rate_cuts={value}", ["--rate_cuts must be", f"={value}", "5,2"])
        for value in ("five", "5,1", "5,,2", "0.5", "inf", "nan")
    ),
    (
        "--rate_cuts=5,2 --learning_rate_decay=0.1",
        ["both set the learning rate"],
    ),
    ("--rate_cuts=5 --rate_window=0", ["--rate_window must be at least 1"]),
    ("--rate_cuts=5 --rate_patience=0", ["--rate_patience must be"]),
    ("--rate_window=100", ["no effect", "--rate_cuts=5,2"]),
    ("--rate_patience=3", ["no effect", "only --rate_cuts cuts"]),
    ("--momentum=1", ["--momentum must be in [0, 1)"]),
    ("--beta=-0.1", ["--beta must be"]),
    ("--local_workers=2 --max_lag=-1", ["--max_lag must be"]),
    ("--max_lag=5", ["--max_lag has no effect"]),
    ("--moving_rate=inf", ["--moving_rate must be finite"]),
    ("--moving_rate=-0.1", ["--moving_rate must be at least 0"]),
    ("--communication_period=0", ["at least 1", "none", "default is 10"]),
    ("--communication_period=often", ["Received", "often"]),
    ("--optimizer=moving_average_sgd --averaging_rate=0", ["in (0, 1]"]),
    ("--center_average=mean", ["none, polyak, or a rate", "=mean"]),
    ("--center_average=1.5", ["a rate in (0, 1]", "=1.5"]),
    ("--average_from=3", ["needs an average", "--center_average=polyak"]),
    ("--optimizer=averaged_sgd --average_from=-1", ["at least 0"]),
    ("--optimizer=adownpour --average_from=soon", ["or first_cut", "=soon"]),
    ("--average_from=first_cut", ["needs an average"]),
    ("--optimizer=downpour --average_from=3", ["has no average"]),
    ("--optimizer=averaged_sgd --center_average=polyak", ["has no choice"]),
    ("--optimizer=diloco --outer_momentum=1", ["in [0, 1)"]),
    ("--optimizer=async_diloco --momentum_delay=0", ["at least 1"]),
    ("--optimizer=async_diloco --momentum_activation=2", ["from 0 to 1"]),
    ("--optimizer=heloco --push_weight=0", ["in (0, 1]"]),
    ("--optimizer=halos --merge_weight=2", ["in [0, 1]"]),
    ("--optimizer=halos --regional_delay=0", ["at least 1"]),
    ("--optimizer=admm --elasticity=-1", ["--elasticity must be"]),
    ("--optimizer=async_msgd --delay_compensation=-1", ["at least 0"]),
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
    # A cluster on this machine.
    ("--local_workers=0", ["--local_workers must be at least 1"]),
    ("--local_workers=2 --local_ps=0", ["--local_ps must be at least 1"]),
    ("--local_workers=two", ["local_workers", "two"]),
    ("--local_workers=2 --group_size=0", ["--group_size must be at least 1"]),
    (
        "--local_workers=5 --group_size=2",
        ["multiple of --group_size", "Take --local_workers=6"],
    ),
    (
        "--local_workers=4 --group_size=2 --status",
        ["--status has no effect", "tf_elastic.timeline status"],
    ),
    ("--group_size=2", ["--group_size has no effect"]),
    ("--inside=elastic", ["--inside has no effect", "star of processes"]),
    ("--devices_per_process=2", ["--devices_per_process has no effect"]),
    (
        "--local_workers=2 --devices_per_process=0",
        ["--devices_per_process must be at least 1"],
    ),
    (
        "--local_workers=2 --outer_period=20",
        ["--outer_period has no effect", "--inside=elastic"],
    ),
    (
        "--local_workers=2 --inside=elastic",
        ["needs --devices_per_process", "Received: --devices_per_process=None"],
    ),
    (
        "--local_workers=2 --inside=elastic --devices_per_process=2 "
        "--outer_period=25",
        ["multiple of --communication_period", "Take --outer_period=30"],
    ),
    (
        "--local_workers=2 --inside=elastic --devices_per_process=2 "
        "--outer_period=0",
        ["--outer_period must be at least 1"],
    ),
    (
        "--local_workers=2 --inside=elastic --devices_per_process=2 "
        "--outer_period=10 --communication_period=none",
        ["needs a --communication_period", "--communication_period=none"],
    ),
    (
        "--local_workers=4 --group_size=2 --inside=elastic",
        ["--inside has no effect", "leave --group_size out"],
    ),
    (
        "--local_workers=4 --group_size=2 --devices_per_process=2",
        ["--devices_per_process has no effect", "mirrored"],
    ),
    (
        "--local_workers=4 --tree=2 --group_size=2",
        ["--group_size has no effect", "--strategy=elastic_multi_worker"],
    ),
    (
        "--local_workers=4 --tree=2 --inside=elastic",
        ["--inside has no effect", "--strategy=elastic_multi_worker"],
    ),
    ("--local_workers=2 --protocol=late", ["overlapped|blocking|synchronous"]),
    ("--local_workers=2 --compression=zip", ["none|bfloat16|int8"]),
    (
        "--local_workers=2 --workers=2",
        ["--workers has no effect", "processes", "--local_workers"],
    ),
    (
        "--local_workers=2 --order=jacobi",
        ["--order has no effect", "--protocol"],
    ),
    ("--protocol=blocking", ["--protocol has no effect", "--local_workers"]),
    ("--compression=int8", ["--compression has no effect"]),
    ("--trusted_network", ["--trusted_network has no effect"]),
    ("--local_ps=2", ["--local_ps has no effect", "only --local_workers"]),
    ("--local_evaluator", ["--local_evaluator has no effect"]),
    ("--restart_workers", ["--restart_workers has no effect"]),
    ("--status", ["--status has no effect", "only --local_workers"]),
    (
        "--local_workers=2 --strategy=elastic_mirrored",
        ["trains in one", "--strategy=elastic_multi_worker"],
    ),
    (
        "--local_workers=2 --strategy=mirrored",
        ["trains in one", "--strategy=elastic_multi_worker"],
    ),
    (
        "--strategy=elastic_multi_worker",
        ["nothing says where", "--local_workers=4", "TF_CONFIG"],
    ),
    ("--strategy=multi_worker_mirrored", ["nothing says where"]),
    (
        "--local_workers=2 --optimizer=admm --protocol=overlapped",
        ["no --protocol=overlapped", "Use --protocol=blocking"],
    ),
    (
        "--local_workers=2 --compression=int8 --protocol=blocking",
        ["--compression=int8 needs --protocol=overlapped"],
    ),
    (
        "--local_workers=2 --compression=bfloat16 --protocol=synchronous",
        ["--compression=bfloat16 needs --protocol=overlapped"],
    ),
    (
        "--local_workers=2 --optimizer=averaged_sgd",
        ["sequential", "--local_workers=2", "Use --local_workers=1"],
    ),
    (
        "--local_workers=3 --optimizer=moving_average_sgd",
        ["sequential", "easgd"],
    ),
    (
        "--local_workers=3 --beta=0.9 --moving_rate=0.5",
        ["--beta must equal", "3 workers", "--beta=1.5"],
    ),
    *(
        (
            f"--local_workers=2 --strategy=multi_worker_mirrored {flag}",
            [f"{flag.split('=')[0]} has no effect", "elastic_multi_worker"],
        )
        for flag in (
            "--protocol=blocking",
            "--compression=int8",
            "--local_ps=2",
            "--local_evaluator",
            "--restart_workers",
            "--status",
            "--beta=0.5",
            "--optimizer=easgd",
        )
    ),
    (
        "--local_workers=2 --strategy=multi_worker_mirrored --resume "
        "--model_dir={tmp}/mirrored",
        ["--resume is not for --strategy=multi_worker_mirrored"],
    ),
    (
        "--local_workers=2 --resume --model_dir={tmp}/single",
        ["begun in one process", "--local_workers=2"],
    ),
    (
        "--local_workers=2 --model_dir={tmp}/cluster",
        ["holds a run already", "--resume"],
    ),
    # A virtual cluster.
    ("--virtual_workers=0", ["--virtual_workers must be at least 1"]),
    (
        "--virtual_workers=4 --local_workers=2",
        ["rehearses a cluster", "starts a real one", "Leave one"],
    ),
    (
        "--virtual_workers=4 --strategy=mirrored",
        ["--strategy=mirrored is another", "Leave --strategy out"],
    ),
    ("--strategy=virtual_cluster", ["Give --virtual_workers=16"]),
    *(
        (
            f"--virtual_workers=4 {flag}",
            [f"{flag.split('=')[0]} has no effect", why],
        )
        for flag, why in (
            ("--workers=4", "--virtual_workers says how many"),
            ("--order=jacobi", "--protocol"),
            ("--compression=int8", "nothing travels"),
            ("--trusted_network", "nothing travels"),
            ("--gpu_memory_mb=100", "on one device"),
            ("--status", "only --local_workers"),
        )
    ),
    *(
        (flag, [f"{flag.split('=')[0]} has no effect", "--virtual_workers"])
        for flag in (
            "--timing=t.json",
            "--timing_seed=3",
            "--step_seconds=3",
            "--quorum=2",
            "--max_staleness=3",
        )
    ),
    ("--virtual_workers=4 --timing_seed=-1", ["--timing_seed must be"]),
    ("--virtual_workers=4 --max_staleness=0", ["must be at least 1"]),
    (
        "--virtual_workers=4 --quorum=2",
        ["of --protocol=synchronous", "with --protocol=overlapped"],
    ),
    (
        "--virtual_workers=4 --protocol=synchronous --max_staleness=2",
        ["of workers that do not meet", "--max_staleness=2"],
    ),
    (
        "--virtual_workers=4 --optimizer=sync_sgd --quorum=5",
        ["at most the 4 workers", "--quorum=5"],
    ),
    (
        "--virtual_workers=4 --optimizer=averaged_sgd",
        ["sequential", "Use --virtual_workers=1"],
    ),
    (
        "--virtual_workers=4 --optimizer=local_sgd --protocol=blocking",
        ["has no --protocol=blocking", "--protocol=synchronous"],
    ),
    (
        "--virtual_workers=4 --timing={tmp}/deaths.json",
        ["`deaths` must name workers from 0 to 3", "worker 7", "deaths.json"],
    ),
    (
        "--virtual_workers=2 --timing={tmp}/joins.json",
        ["at least one worker that is there", "2 of 2"],
    ),
    (
        "--virtual_workers=4 --timing={tmp}/stop.json",
        ["There is no 'stop' in a timing", "Did you mean 'step'?"],
    ),
    ("--virtual_workers=4 --timing={tmp}/no.json", ["no.json"]),
    (
        "--virtual_workers=4 --timing=thesis-cifer",
        ["Did you mean 'thesis-cifar'?", "or a JSON file"],
    ),
    (
        "--virtual_workers=4 --timing=1gbit",
        ["the seconds of a local step", "Give --step_seconds=0.1"],
    ),
    ("--virtual_workers=4 --step_seconds=0", ["--step_seconds must be"]),
    # Files.
    ("--resume", ["--resume needs --model_dir"]),
    ("--resume --model_dir={tmp}/no", ["must hold a run", "settings.json"]),
    ("--model_dir={tmp}/old", ["holds a run already", "--resume"]),
    ("--dataset=cifar10 --data_dir={tmp}", ["'cifar10'", "--download"]),
    ("--dataset=cifar100 --data_dir={tmp}/no", ["'cifar100'", "digits"]),
    ("--plot={tmp}/run.pdf", ["end in .png"]),
]


TIMINGS = {
    "deaths.json": {"step": 0.1, "deaths": [[7, 2.0]]},
    "joins.json": {"step": 0.1, "joins": [[0, 1.0], [1, 1.0]]},
    "stop.json": {"stop": 0.1},
}


@pytest.mark.parametrize(("args", "parts"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_flag_says_what_to_do(args, parts, tmp_path, capsys):
    (tmp_path / "old" / "backup").mkdir(parents=True)
    (tmp_path / "cluster" / "centers").mkdir(parents=True)
    for name, timing in TIMINGS.items():
        (tmp_path / name).write_text(json.dumps(timing))
    for name in ("single", "mirrored"):
        (tmp_path / name).mkdir()
        begun = {"strategy": "elastic_mirrored", "local_workers": None}
        if name == "mirrored":
            begun = {"strategy": "multi_worker_mirrored", "local_workers": 2}
        (tmp_path / name / "settings.json").write_text(json.dumps(begun))
    argv = ["train.py", *args.format(tmp=tmp_path).split()]
    assert train.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("train.py: ")
    for part in parts:
        assert part in err


# (TF_CONFIG, flags, parts of the message)
WRONG_IN_CLUSTER = [
    (
        tf_config(),
        "--local_workers=2",
        ["starts a cluster", "Received: both", "unset TF_CONFIG"],
    ),
    (tf_config(), "--workers=2", ["--workers has no effect"]),
    (tf_config(), "--local_ps=2", ["only --local_workers"]),
    (tf_config(), "--status", ["only --local_workers"]),
    (tf_config(), "--virtual_workers=2", ["Received: both", "TF_CONFIG"]),
    (
        tf_config(),
        "--optimizer=averaged_sgd",
        ["TF_CONFIG with 2 workers", "easgd"],
    ),
    (
        tf_config(),
        "--resume --model_dir={tmp}",
        ["Leave --resume out", "snapshots"],
    ),
    (tf_config(centers=0), "", ["must have a job 'ps'"]),
    (tf_config(index=2), "", ["from 0 to 1", "Received: 2"]),
    (tf_config(role="boss"), "", ["must be one of", "'boss'"]),
    ("{", "", ["TF_CONFIG must be JSON", "line 1", "docs/cluster.md"]),
    ("", "", ["must describe the cluster"]),
    ('{"cluster": {}}', "", ["must have `cluster`"]),
    (
        tf_config().replace("10.0.1.1:2222", "10.0.1.1"),
        "",
        ["The address of ps 0 is wrong"],
    ),
]


@pytest.mark.parametrize(("config", "args", "parts"), WRONG_IN_CLUSTER)
def test_what_is_wrong_in_a_cluster(
    config, args, parts, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TF_CONFIG", config)
    argv = ["train.py", *args.format(tmp=tmp_path).split()]
    assert train.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("train.py: ")
    for part in parts:
        assert part in err


def test_wrong_flags_are_told_without_tensorflow():
    code = (
        "import os, sys, train\n"
        "assert train.main(['train.py', '--workers=0']) == 2\n"
        "assert train.main(['train.py', '--local_workers=0']) == 2\n"
        "assert train.main(['train.py', '--help']) == 0\n"
        "os.environ['TF_CONFIG'] = '{'\n"
        "assert train.main(['train.py']) == 2\n"
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
    result = run_python("train.py", "--optimizer=averaged_sgd", "--workers=4")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_help_names_every_flag():
    result = run_python("train.py", "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    text = result.stdout
    assert text.count("python train.py") >= 3
    for group in (
        *("Data", "Workers", "Cluster", "Method", "Length"),
        "Files and output",
    ):
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
    assert len(examples) == 4
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
    flags = "--dataset=cifar10", f"--data_dir={tmp_path}"
    lowrank = parse(*flags, "--variant=lowrank")
    assert lowrank["batch_size"] == 16
    assert lowrank["steps_per_epoch"] == 50_000 // 16
    assert building.make_network(cifar).name == "cifar_convnet"
    assert building.make_network(lowrank).name == "cifar_lowrank_convnet"
    with pytest.raises(usage.UsageError, match="--variant"):
        parse("--variant=lowrank")


def test_imagenet(tmp_path):
    (tmp_path / "imagenet2012").mkdir()
    flags = "--dataset=imagenet2012", f"--data_dir={tmp_path}"
    settings = parse(*flags)
    assert settings["batch_size"] == 128
    assert settings["steps_per_epoch"] == 1_281_167 // 128
    with pytest.raises(usage.UsageError, match="data.prepare .*--size=256"):
        parse(*flags, "--stored_size=256", "--download")
    (tmp_path / "imagenet2012_256").mkdir()
    stored = parse(*flags, "--stored_size=256", "--variant=random_resized")
    assert stored["stored_size"] == 256
    assert building.make_network(stored).input_shape == (None, 224, 224, 3)
    with pytest.raises(usage.UsageError, match="crop or random_resized"):
        parse(*flags, "--variant=pad")
    with pytest.raises(usage.UsageError, match="it is for ImageNet"):
        parse("--stored_size=256")


def test_the_padded_variant_is_of_whole_images(tmp_path):
    (tmp_path / "cifar100").mkdir()
    flags = "--dataset=cifar100", f"--data_dir={tmp_path}", "--variant=pad"
    network = building.make_network(parse(*flags))
    assert network.input_shape == (None, 32, 32, 3)
    assert network.output_shape == (None, 100)


def test_sequential_methods_have_one_worker():
    assert parse("--optimizer=averaged_sgd")["workers"] == 1
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

    for text, why in (
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "no object"),
        ('{"epochs": "3"}', "epochs is '3'"),
        ('{"epochs": true}', "epochs is True"),
        ('{"beta": NaN}', "beta is nan"),
        ('{"dataset": "mnist"}', "dataset is 'mnist'"),
        ('{"data_dir": "\\ud800"}', "surrogates not allowed"),
    ):
        path.write_text(text)
        assert train.main(["train.py", *resume]) == 2
        error = capsys.readouterr().err
        assert f"{path} does not hold the settings of a run" in error
        assert why in error


def test_memory_of_a_gpu_is_shared_out():
    assert devices.split_memory_mb(10_000, 4) == 2250
    assert devices.split_memory_mb(10_000, 1) == 9000


def test_a_gpu_whose_memory_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(usage.UsageError, match="Give --gpu_memory_mb"):
        devices.free_gpu_memory_mb()


def test_the_strategy_follows_from_where_it_runs(monkeypatch):
    assert parse()["strategy"] == "elastic_mirrored"
    local = parse("--local_workers=3")
    assert local["strategy"] == "elastic_multi_worker"
    assert (local["workers"], local["local_ps"]) == (3, 1)
    assert (local["protocol"], local["compression"]) == (None, "none")
    monkeypatch.setenv("TF_CONFIG", tf_config(workers=5))
    task = parse()
    assert task["strategy"] == "elastic_multi_worker"
    assert task["workers"] == 5
    # Whoever asks for it trains in one process all the same.
    alone = parse("--strategy=elastic_mirrored", "--workers=2")
    assert alone["workers"] == 2


def test_the_timing_of_a_virtual_cluster(tmp_path):
    def timing(*flags):
        return read_timing(parse("--virtual_workers=3", *flags))

    assert timing() == Timing(1.0)
    assert timing("--step_seconds=0.5") == Timing(0.5)
    assert timing("--timing=thesis-cifar") == preset("thesis-cifar")
    path = tmp_path / "own.json"
    path.write_text('{"step": 2.0, "latency": 0.5}')
    assert timing(f"--timing={path}") == Timing(2.0, latency=0.5)
    other = timing(f"--timing={path}", "--step_seconds=3")
    assert other == Timing(3.0, latency=0.5)
    alone = read_timing(
        parse(
            "--virtual_workers=1",
            "--optimizer=averaged_sgd",
            f"--timing={path}",
        )
    )
    assert alone == Timing(2.0)
    far = timing("--timing=two-regions", "--step_seconds=0.1")
    assert [far.of_worker("latency", w).seconds for w in range(3)] == [
        *(100e-6, 100e-6),
        0.04,
    ]


def test_the_names_of_timings_in_the_help_are_all():
    [flag] = [f for f in flag_table.all_flags() if f.name == "timing"]
    for name in PRESETS:
        assert name in flag.help


def test_the_mirrored_cluster_needs_no_centers(monkeypatch):
    local = parse("--local_workers=2", "--strategy=multi_worker_mirrored")
    assert local["workers"] == 2
    monkeypatch.setenv("TF_CONFIG", tf_config(centers=0))
    assert parse("--strategy=multi_worker_mirrored")["workers"] == 2


def test_sequential_methods_have_one_worker_in_a_cluster_too():
    settings = parse("--optimizer=averaged_sgd", "--local_workers=1")
    assert settings["workers"] == 1


def test_every_role_may_be_asked_for(monkeypatch):
    for role in ("worker", "ps", "evaluator"):
        monkeypatch.setenv("TF_CONFIG", tf_config(role=role))
        assert parse()["workers"] == 2


def test_more_or_fewer_workers_resume_with_epochs_of_the_same_size(tmp_path):
    before = parse(
        "--local_workers=2", "--steps_per_epoch=30", f"--model_dir={tmp_path}"
    )
    (tmp_path / "settings.json").write_text(json.dumps(before))
    (tmp_path / "centers").mkdir()
    resume = ("--resume", f"--model_dir={tmp_path}")
    same = parse(*resume, "--epochs=9")
    assert (same["local_workers"], same["steps_per_epoch"]) == (2, 30)
    for workers, steps in ((1, 60), (3, 20), (7, 8)):
        after = parse(*resume, f"--local_workers={workers}")
        assert after["workers"] == workers
        assert after["steps_per_epoch"] == steps


# What the processes of a cluster get.

# Of every flag but those of the launcher, values that may come together.
VALUES = {
    "device": ["auto", "cpu", "gpu"],
    "gpu_memory_mb": [512],
    "learning_rate": [0.1, 1e-7, 0.30000000000000004],
    "learning_rate_decay": [0.01],
    "weight_decay": [1e-4],
    "clipnorm": [0.5],
    "gradient_accumulation_steps": [2],
    "batch_size": [16],
    "epochs": [3],
    "steps_per_epoch": [5],
    "steps_per_execution": [2],
    "mixed_precision": ["bfloat16"],
    "jit_compile": ["true", "false"],
    "seed": [5],
    "deterministic": [True, False],
    "logdir": ["runs/tb"],
    "model_dir": ["runs/with space"],
    "plot": ["run.png"],
    "report": ["run.json"],
    "verbose": ["0", "1", "2"],
    "trusted_network": [True, False],
}
ELASTIC = {
    "optimizer": ["eamsgd", "easgd"],
    "beta": [0.5],
    "communication_period": ["3", "none"],
    "jit_compile": ["true", "false"],
    "protocol": ["overlapped"],
    "max_lag": [3.5, 0.0],
    "compression": ["none", "bfloat16", "int8"],
    "local_ps": [1, 3],
    "local_evaluator": [True],
    "restart_workers": [True],
    "status": [True],
}
MIRRORED = {"momentum": [0.5], "nesterov": [True, False]}
ALONE = [
    {"optimizer": "eamsgd", "momentum": 0.3, "nesterov": False},
    {"optimizer": "elastic", "inner_optimizer": "adamw"},
    {"symmetric": False, "beta": 0.9, "moving_rate": 0.1},
    {"optimizer": "easgd", "moving_rate": 0.1},
    {"protocol": "blocking"},
    {"protocol": "synchronous"},
    {"local_workers": 4, "group_size": 2},
    {"devices_per_process": 2},
    {"inside": "elastic", "devices_per_process": 2, "order": "round_robin"},
    {"inside": "elastic", "devices_per_process": 2, "outer_period": 20},
    {
        "optimizer": "moving_average_sgd",
        "averaging_rate": 0.2,
        "local_workers": 1,
    },
    {"optimizer": "averaged_sgd", "local_workers": 1},
    {"optimizer": "adownpour", "average_from": "5"},
    {"optimizer": "easgd", "center_average": "0.2"},
    {"center_average": "polyak", "average_from": "5"},
    {"center_average": "polyak", "average_from": "first_cut"},
    {"rate_cuts": "5,2", "rate_window": 50, "rate_patience": 3},
    {"optimizer": "downpour", "communication_period": "4"},
    {"optimizer": "mvadownpour", "averaging_rate": 0.2},
    {"optimizer": "async_msgd", "momentum": 0.3, "staleness_scaling": True},
    {"optimizer": "diloco", "outer_momentum": 0.5, "inner_optimizer": "sgd"},
    {"optimizer": "async_msgd", "adjustment": "inverse"},
    {"optimizer": "async_msgd", "delay_compensation": 0.1},
    {"optimizer": "diloco", "outer_learning_rate": 0.5},
    {"optimizer": "async_diloco", "momentum_delay": 4},
    {"optimizer": "async_diloco", "momentum_activation": 0.2},
    {"optimizer": "heloco", "push_weight": 0.5},
    {"optimizer": "halos", "merge_weight": 0.5},
    {"optimizer": "halos", "regional_learning_rate": 0.5},
    {"optimizer": "halos", "regional_momentum": 0.5},
    {"optimizer": "halos", "regional_delay": 4},
    {"optimizer": "admm", "elasticity": 0.5},
    {"dataset": "cifar10", "data_dir": "DATA", "download": True},
    {"dataset": "cifar100", "data_dir": "DATA", "download": True},
    {"dataset": "cifar10", "download": True, "variant": "lowrank"},
]


def written(values):
    """Flags, as a user writes them."""
    kinds = {flag.name: flag.kind for flag in flag_table.all_flags()}
    return [
        f"--{'' if value else 'no'}{name}"
        if kinds[name] == "switch"
        else f"--{name}={value}"
        for name, value in values.items()
    ]


def of_child(parent, **kwargs):
    """The settings that a process of the launched cluster parses."""
    config = tf_config(workers=parent["workers"], **kwargs)
    with mock.patch.dict("os.environ", TF_CONFIG=config):
        return parse(*launching._flags(parent))


LAUNCHER = {
    "local_workers",
    "local_ps",
    "local_evaluator",
    "restart_workers",
    "status",
    "resume",
}


def check_child(values):
    # Not the folders of this machine.
    with mock.patch("tf_elastic.program.checks.os.path.exists") as exists:
        exists.return_value = False
        parent = parse(*written({"local_workers": 2, **values}))
    child = of_child(parent)
    for name, value in parent.items():
        if name == "verbose" and value == "1" and parent["status"]:
            value = "2"  # A bar would be drawn where the table is.
        if name not in LAUNCHER:
            assert child[name] == value, name


@pytest.mark.parametrize("values", ALONE)
def test_a_child_has_the_settings_of_the_launcher(values):
    check_child(values)


def some_of(table):
    return st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(v) for name, v in table.items()}
    )


@examples(150)
@given(
    st.one_of(
        some_of({**VALUES, **ELASTIC}),
        some_of({**VALUES, **MIRRORED}).map(
            lambda values: {
                **{k: v for k, v in values.items() if k != "jit_compile"},
                "strategy": "multi_worker_mirrored",
            }
        ),
    )
)
def test_a_child_has_the_settings_of_the_launcher_for_any_flags(values):
    check_child(values)


def test_all_flags_are_in_these_tables():
    named = {*VALUES, *ELASTIC, *MIRRORED, *LAUNCHER, "strategy"}
    for values in ALONE:
        named |= set(values)
    # An error in a cluster, see above; and what ends at once.
    named |= {"workers", "methods", "advise"}
    named.add("rules")  # See registry_test.py.
    named.add("events")  # See train_cluster_test.py.
    # See train_virtual_test.py.
    named |= {"virtual_workers", "timing", "timing_seed", "step_seconds"}
    named |= {"quorum", "max_staleness"}
    named.add("stored_size")  # See test_imagenet.
    # See tree_flags_test.py.
    named |= {"tree", "scheme", "periods", "most_waiting"}
    assert named == {flag.name for flag in flag_table.all_flags()}
