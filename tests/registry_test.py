"""`@register`: a method in a file of the user's own is as good as any."""

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import train
from tests import source_tree as tree
from tests.quadratic_support import INITIAL
from tests.quadratic_support import Record
from tests.quadratic_support import build
from tests.quadratic_support import fit
from tests.quadratic_support import gradient
from tf_elastic import optimizers
from tf_elastic import user_code
from tf_elastic.optimizers import register
from tf_elastic.optimizers import registration_checks as checks
from tf_elastic.optimizers import registry
from tf_elastic.program import building
from tf_elastic.program import known_methods
from tf_elastic.program import method_table
from tf_elastic.program import settings
from tf_elastic.program import usage

# The example of the docs, as somebody writes it who has only installed the
# package; and a note of who has imported it.
DOCS = tree.ROOT / "docs" / "methods.md"
[EXAMPLE] = re.findall(
    r"^```python\n(\"\"\".*?^)```$", DOCS.read_text("utf-8"), re.M | re.S
)
NOTE = """
import os
import sys

if "SEEN_BY" in os.environ:
    with open(os.environ["SEEN_BY"], "a") as file:
        file.write(f"{os.path.basename(sys.argv[0])}\\n")
"""
MINE = EXAMPLE + NOTE


@pytest.fixture
def apart(monkeypatch, tmp_path):
    """What is registered or imported from `tmp_path` is forgotten again."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.delenv(user_code.VARIABLE, raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


pytestmark = pytest.mark.usefixtures("apart")


@pytest.fixture
def mine(tmp_path):
    """The path of the user's file."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


def parse(*args):
    return settings.parse(["train.py", *args])


# A file of the user's own.


def test_a_method_of_ones_own_has_its_row_flags_and_defaults(mine, capsys):
    parsed = parse(f"--rules={mine}", "--optimizer=part_downpour")
    assert parsed["optimizer"] == "part_downpour"
    assert (parsed["learning_rate"], parsed["share"]) == (0.03, 0.5)
    assert parsed["communication_period"] == "2"
    assert parsed["rules"] == mine
    method = registry.named("PartDownpour")
    assert method.cls is sys.modules["mine"].PartDownpour
    # What it has not said is its base's.
    assert (method.up, method.worker_memory) == ("update", 2)
    assert method.family == "DOWNPOUR"
    assert method.advised_as is None  # Its rule is another one.
    names = [each.name for each in registry.listed()]
    assert names[names.index("MVADownpour") + 1] == "PartDownpour"
    assert "PartDownpour  (--optimizer=part_downpour)" in method_table.text()
    row = method_table.markdown().splitlines()[2:][names.index("PartDownpour")]
    assert row.startswith("| `PartDownpour` | `c += s (x_i - read_i)")
    assert "| round_robin; blocking |" in row
    assert train.main(["train.py", f"--rules={mine}", "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"--share=X\n +An argument of PartDownpour", out)
    summary = "part_downpour: DOWNPOUR, of which the center takes a share."
    assert summary in " ".join(out.split())


def test_the_program_lists_it(mine, capsys):
    assert train.main(["train.py", f"--rules={mine}", "--methods"]) == 0
    out, err = capsys.readouterr()
    assert "PartDownpour  (--optimizer=part_downpour)" in out
    assert "nobody (2016)" in out
    assert out.index("PartDownpour") > out.index("MVADownpour")
    assert err == ""


def test_it_may_be_named_by_its_class(mine):
    parsed = parse(f"--rules={mine}", "--optimizer=PartDownpour", "--share=0.1")
    assert (parsed["optimizer"], parsed["share"]) == ("part_downpour", 0.1)


# (flags, parts of the message)
WRONG = [
    ("--share=0.1", ["--share has no effect", "--optimizer=part_downpour"]),
    ("--optimizer=part_downpour --beta=0.5", ["has no elastic rates"]),
    ("--optimizer=part_downpour --share=much", ["share", "much"]),
    (
        "--optimizer=part_downpour --order=gauss_seidel",
        ["no --order=gauss_seidel", "one push at a time", "=round_robin"],
    ),
    (
        "--optimizer=part_downpour --local_workers=2 --protocol=overlapped",
        ["no --protocol=overlapped", "Use --protocol=blocking"],
    ),
    (
        "--optimizer=part_downpour --advise",
        ["nothing to say of --optimizer=part_downpour", "advised_as"],
    ),
    (
        "--strategy=mirrored",
        ["--rules has no effect", "Keras' SGD"],
    ),
]


@pytest.mark.parametrize(("args", "parts"), WRONG, ids=[w[0] for w in WRONG])
def test_what_is_wrong_of_it_is_told(args, parts, mine, capsys):
    assert train.main(["train.py", f"--rules={mine}", *args.split()]) == 2
    error = capsys.readouterr().err
    for part in parts:
        assert part in error, error


@pytest.mark.usefixtures("float64")
def test_it_trains_by_its_own_rule(mine, strategy):
    """Of two workers in turn, against the rule written down in NumPy."""
    user_code.import_files([mine])
    cls = sys.modules["mine"].PartDownpour
    eta, tau, share, p, steps = 0.02, 3, 0.25, 2, 12
    with strategy(p, None).scope():
        model = build(
            lambda: cls(
                eta, communication_period=tau, share=share, jit_compile=False
            )
        )
        model.optimizer.build(model.trainable_variables)
    record = Record()
    fit(model, range(p), steps=steps, callbacks=[record])
    center = INITIAL.copy()
    x = [center.copy() for _ in range(p)]
    read = [center.copy() for _ in range(p)]
    for step in range(steps):
        x = [x[i] - eta * gradient(i, step, x[i]) for i in range(p)]
        if (step + 1) % tau == 0:
            for i in range(p):
                center = center + share * (x[i] - read[i])
                x[i], read[i] = center.copy(), center.copy()
        found = record.rows["center"][step + 1]
        np.testing.assert_allclose(found, center, rtol=1e-12, atol=1e-14)
        found = record.rows["stored"][step + 1]
        np.testing.assert_allclose(found, x, rtol=1e-12, atol=1e-14)
    assert abs(center - INITIAL).max() > 0.01
    copy = cls.from_config(model.optimizer.get_config())
    assert (copy.share, copy.method.name) == (0.25, "PartDownpour")


def test_an_order_that_it_has_not_is_refused_with_its_words(mine, strategy):
    user_code.import_files([mine])
    with strategy(2, "jacobi").scope():
        optimizer = sys.modules["mine"].PartDownpour()
        with pytest.raises(ValueError, match="of one push at a time") as error:
            optimizer.build([keras.Variable(np.zeros(2))])
    assert "PartDownpour has no `order='jacobi'`" in str(error.value)


@pytest.mark.usefixtures("float64")
def test_a_gradient_push_of_ones_own_needs_no_theory(strategy):
    """The theory knows its rule only if it is told which one it is."""

    def make(**told):
        @register(
            rule="c -= eta g_i",
            orders=("round_robin",),
            protocols=("blocking",),
            refusal="gradients come one after another",
            up="gradient",
            down="parameters",
            option="pushed",
            **told,
        )
        class Pushed(optimizers.AsyncMSGD):
            """Gradients that are pushed."""

        return Pushed

    for told in ({}, {"advised_as": "AsyncMSGD"}):
        with strategy(8, None).scope():
            optimizer = make(**told)(3.0, momentum=0.99)
            expected = contextlib.nullcontext()
            if told:
                expected = pytest.warns(UserWarning, match="7 updates late")
            with expected:
                optimizer.build([keras.Variable(np.zeros(2))])
            assert optimizer.built


@pytest.mark.usefixtures("float64")
def test_a_direct_subclass_of_a_base_is_complete(strategy):
    @register(use="a test")
    class Sign(optimizers.ElasticOptimizer):
        """Steps of one size."""

        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, learning_rate * keras.ops.sign(gradient))

    assert [m.option for m in registry.listed()][3] == "sign"
    with strategy(2, "jacobi").scope():
        model = build(lambda: Sign(0.1, beta=0.6, communication_period=1))
    record = Record()
    fit(model, range(2), steps=2, callbacks=[record])
    x, center = np.stack([INITIAL, INITIAL]), INITIAL
    for step in range(2):
        before = x
        signs = [np.sign(gradient(i, step, x[i])) for i in range(2)]
        x = x - 0.1 * np.array(signs) - 0.3 * (before - center)
        center = center + 0.6 * (before - center).mean(axis=0)
    np.testing.assert_allclose(record.rows["stored"][2], x, rtol=1e-12)
    np.testing.assert_allclose(record.rows["center"][2], center, rtol=1e-12)


def test_what_is_not_decorated_goes_by_its_base():
    class Mine(optimizers.EAMSGD):
        pass

    class Others(optimizers.ElasticOptimizer):
        pass

    assert Mine(0.1).method_name == "EAMSGD"
    assert Mine(0.1).method is registry.named("EAMSGD")
    assert Others(0.1).method_name == "ElasticOptimizer"
    assert "Mine" not in [method.name for method in registry.listed()]


@pytest.mark.parametrize(
    "base", [optimizers.CenterOptimizer, optimizers.downpour.PushOptimizer]
)
def test_without_a_registered_base_it_is_told_to_decorate(base):
    class Mine(base):
        pass

    with pytest.raises(TypeError, match="Decorate the class") as error:
        Mine(0.1)
    assert "Mine is not registered" in str(error.value)
    assert __file__ in str(error.value)


# Wrong arguments.

WHOLE = {
    "rule": "c = x_i",
    "orders": ("jacobi",),
    "protocols": ("blocking",),
    "refusal": "it is a test",
    "up": "parameters",
    "down": "parameters",
}
# (argument, value, parts of the message)
REFUSED = [
    ("rule", None, ["must be given, since no base"]),
    ("orders", None, ["must be given"]),
    ("protocols", None, ["must be given"]),
    ("up", None, ["must be given"]),
    ("down", None, ["must be given"]),
    ("orders", (), ["must not be empty", "'jacobi', 'gauss_seidel'"]),
    ("orders", ("ring",), ["has no 'ring'", "the default first"]),
    ("orders", "jacobi", ["must be a tuple"]),
    ("orders", ("jacobi", "jacobi"), ["must have each once"]),
    ("protocols", (), ["must not be empty", "'overlapped', 'blocking'"]),
    ("protocols", ("one_way",), ["has no 'one_way'"]),
    ("refusal", None, ["no gauss_seidel, round_robin, overlapped, synchron"]),
    ("refusal", " ", ["must say why"]),
    ("rule", "", ["must not be empty"]),
    ("rule", 3, ["must be a text"]),
    ("use", "a | b", ["without '|'"]),
    ("stable", "a\nb", ["one line"]),
    ("copies_up", 0, ["an integer >= 1"]),
    ("copies_down", 1.5, ["an integer >= 1"]),
    ("worker_memory", -1, ["an integer >= 0"]),
    ("center_memory", True, ["an integer >= 0"]),
    ("one_worker", 1, ["must be True or False"]),
    ("option", "My-Own", ["small letters", "`mine`, say"]),
    ("flags", ("eta",), ["'eta', which the constructor has not", "'odd'"]),
    ("flags", ("odd",), ["'odd', whose type is not known", "annotation"]),
    ("flags", "momentum", ["must be a tuple of names"]),
    ("defaults", {"eta": 1.0}, ["must be a dict", "'learning_rate'"]),
    ("defaults", {"momentum": [1]}, ["must have numbers"]),
    ("defaults", {"momentum": {"digits": 1.0}}, ["'digits' and 'cifar'"]),
    ("refuses", {"momentum": "no"}, ["must be a dict", "'weight_decay'"]),
    ("refuses", {"clipnorm": ""}, ["must not be empty"]),
    ("advised_as", "Mine", ["must be one of", "'EASGD'", "Leave it out"]),
]


def own_class():
    class Mine(optimizers.CenterOptimizer):
        def __init__(self, learning_rate=0.1, momentum=0.5, odd=None, **kw):
            super().__init__(learning_rate, **kw)

    return Mine


@pytest.mark.parametrize(("argument", "value", "parts"), REFUSED)
def test_a_wrong_argument_is_named_at_once(argument, value, parts):
    cls = own_class()
    with pytest.raises(ValueError) as error:
        register(**{**WHOLE, argument: value})(cls)
    text = str(error.value)
    assert text.startswith(f"`{argument}` of `register` ")
    for part in ["Received: ", f"Mine in {__file__}", *parts]:
        assert part in text
    assert "Mine" not in registry._registered
    register(**WHOLE)(cls)
    assert set(registry.named("Mine").flags) == {"momentum"}


def test_a_refusal_of_nothing_is_refused():
    everything = {"orders": checks.ORDERS, "protocols": checks.PROTOCOLS}
    with pytest.raises(ValueError, match="every order and protocol is there"):
        register(**{**WHOLE, **everything})(own_class())
    whole = {**WHOLE, **everything, "refusal": None}
    register(**whole)(own_class())
    assert registry.named("Mine").refusal == ""


def test_the_refusal_of_a_base_is_for_what_the_base_refuses():
    class Mine(optimizers.Downpour):
        """It has fewer protocols."""

    with pytest.raises(ValueError, match="why there is no jacobi, .*overlapp"):
        register(protocols=("blocking",))(Mine)
    register(protocols=("blocking",), refusal="it waits")(Mine)
    assert registry.named("Mine").refusal == "it waits"


@pytest.mark.parametrize("thing", [keras.optimizers.SGD, 3])
def test_only_optimizers_with_a_center_are_registered(thing):
    with pytest.raises(TypeError, match="subclasses of `CenterOptimizer`"):
        register(**WHOLE)(thing)


def test_a_decorator_without_arguments_takes_all_from_the_base():
    @register
    class Again(optimizers.Downpour):
        """Once more."""

    method, base = registry.named("Again"), registry.named("Downpour")
    assert (method.rule, method.orders) == (base.rule, base.orders)
    assert method.advised_as == "Downpour"
    assert (method.option, method.summary) == ("again", "Once more.")


def test_a_name_in_two_files_names_both(mine, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(MINE.replace('rule("part")', 'rule("other part")'))
    with pytest.raises(user_code.UserCodeError) as error:
        user_code.import_files([mine, other])
    text = str(error.value)
    assert "name='PartDownpour'" in text and "Rename one" in text
    assert mine in text and str(other) in text
    # The first stays what it was.
    assert registry.named("PartDownpour").cls.__module__ == "mine"


def test_an_option_is_one_methods_own():
    with pytest.raises(ValueError, match="option='easgd'.*easgd.py has it"):
        register(**WHOLE, option="easgd")(own_class())


def test_a_file_may_be_read_again(mine):
    """As a notebook does, where a class is written once more."""
    user_code.import_files([mine])
    first = registry.named("PartDownpour").cls
    del sys.modules["mine"]
    user_code.import_files([mine])
    assert registry.named("PartDownpour").cls is not first
    assert first(0.1).method_name == "PartDownpour"


def test_types_of_flags_come_from_defaults_and_annotations():
    class Mine(optimizers.Downpour):
        def __init__(
            self,
            learning_rate: float,
            count: int = 3,
            on=True,
            rate: float | None = None,
            word="a",
            thing: object = None,
            **kwargs,
        ):
            super().__init__(learning_rate, **kwargs)

    register(rule="a test")(Mine)
    flags = registry.named("Mine").flags
    assert {name: (a.kind, a.default) for name, a in flags.items()} == {
        "count": ("integer", 3),
        "on": ("switch", True),
        "rate": ("number", None),
        "word": ("text", "a"),
    }
    # The base's default holds for it too, if it has none of its own.
    assert parse("--optimizer=mine")["learning_rate"] == 0.05
    parsed = parse("--optimizer=mine", "--noon", "--rate=0.5", "--count=4")
    assert (parsed["on"], parsed["rate"], parsed["count"]) == (False, 0.5, 4)


def test_an_argument_may_not_be_another_flag():
    class Mine(optimizers.Downpour):
        def __init__(self, learning_rate=0.1, seed=0, **kwargs):
            super().__init__(learning_rate, **kwargs)

    register(rule="a test")(Mine)
    with pytest.raises(usage.UsageError, match="`seed` of Mine"):
        parse()
    register(rule="a test", flags=())(Mine)
    assert parse("--optimizer=mine")["seed"] == 0


def test_a_learning_rate_without_a_default_must_be_given():
    class Mine(optimizers.CenterOptimizer):
        def __init__(self, learning_rate, **kwargs):
            super().__init__(learning_rate, **kwargs)

    register(**WHOLE)(Mine)
    with pytest.raises(usage.UsageError, match="needs a --learning_rate"):
        parse("--optimizer=mine")
    parsed = parse("--optimizer=mine", "--learning_rate=0.5")
    assert parsed["learning_rate"] == 0.5


# Files that cannot be imported.

BROKEN = [
    ("missing.py", None, ["There is no file", "Give the path"]),
    ("folder.py", "", ["is no Python file"]),
    ("rules.txt", "x = 1", ["is no Python file", "ends in .py"]),
    ("two-words.py", "x = 1", ["'two-words' is no name", "Rename"]),
    ("json.py", "x = 1", ["'json'", "already. Rename the file"]),
    ("builtins.py", "x = 1", ["a part of Python already"]),
    ("broken.py", "x = 1\ndef f(:\n", ["broken.py, line 2, is no", "def f(:"]),
    ("zeros.py", "x = 1\0", ["zeros.py is no Python"]),
    ("failing.py", "\n\nx = y\n", ["failing.py, line 3,", "NameError: name"]),
    ("lacking.py", "import no_such_thing", ["ModuleNotFoundError"]),
]


@pytest.mark.parametrize(
    ("name", "text", "parts"), BROKEN, ids=[name for name, *_ in BROKEN]
)
def test_a_file_that_cannot_be_imported(name, text, parts, tmp_path, capsys):
    path = tmp_path / name
    if name == "folder.py":
        path.mkdir()
    elif text is not None:
        path.write_text(text)
    before = dict(sys.modules)
    with pytest.raises(user_code.UserCodeError) as error:
        user_code.import_files([path])
    for part in [str(path), *parts]:
        assert part in str(error.value)
    stem = path.stem
    assert sys.modules.get(stem) is before.get(stem)
    assert train.main(["train.py", f"--rules={path}"]) == 2
    error = capsys.readouterr().err
    for part in [f"Received: --rules={path}", *parts]:
        assert part in error


def test_a_file_is_imported_once(tmp_path, monkeypatch):
    path = tmp_path / "once.py"
    path.write_text("import builtins\nbuiltins.times_read += 1\n")
    monkeypatch.setattr("builtins.times_read", 0, raising=False)
    link = tmp_path / "alias.py"
    link.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    found = user_code.import_files(["once.py", path, "./once.py", link])
    assert found == [str(path)]
    user_code.import_files([path])
    import builtins

    assert builtins.times_read == 1


def test_several_files_with_commas_or_flags(tmp_path, monkeypatch):
    paths = []
    for name in ("one", "two", "three"):
        paths.append(str(tmp_path / f"{name}_rules.py"))
        (tmp_path / f"{name}_rules.py").write_text("")
    parsed = parse(f"--rules={paths[0]},{paths[1]}", f"--rules={paths[2]}")
    assert parsed["rules"] == ",".join(paths)
    flags = tmp_path / "flags"
    flags.write_text(f"--rules={paths[1]}\n")
    assert parse(f"--flagfile={flags}")["rules"] == paths[1]
    monkeypatch.setenv(user_code.VARIABLE, paths[2])
    assert parse()["rules"] == paths[2]
    assert parse("--rules", paths[0])["rules"] == paths[0]


def test_a_resumed_run_imports_nothing_unasked(mine, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    begun = parse(f"--rules={mine}", "--optimizer=part_downpour", "--share=0.2")
    (folder / "settings.json").write_text(json.dumps(begun))
    resume = ["--resume", f"--model_dir={folder}"]
    assert train.main(["train.py", *resume]) == 2
    error = capsys.readouterr().err
    assert f"begun with --rules={mine}" in error and "Give it again" in error
    resumed = parse(*resume, f"--rules={mine}")
    assert (resumed["optimizer"], resumed["share"]) == ("part_downpour", 0.2)


# Processes.

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k != user_code.VARIABLE},
    "PYTHONPATH": str(tree.ROOT),
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run(*args, status=0, **environment):
    """Runs Python to its end; its stdout and stderr."""
    result = subprocess.run(
        [sys.executable, *map(str, args)],
        env={**ENVIRONMENT, **environment},
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def test_a_local_cluster_trains_by_it(mine, tmp_path):
    """The launcher, the worker and the center server all import the file."""
    seen, report = tmp_path / "seen", tmp_path / "report.json"
    run(
        *("train.py", f"--rules={mine}", "--optimizer=part_downpour"),
        *("--share=0.25", "--local_workers=1", "--epochs=1"),
        *("--steps_per_epoch=6", f"--report={report}", "--verbose=2"),
        *("--jit_compile=false", f"--model_dir={tmp_path / 'run'}"),
        SEEN_BY=str(seen),
    )
    assert sorted(seen.read_text().split()) == ["ps.py", "train.py", "train.py"]
    told = json.loads(report.read_text())
    assert told["settings"]["optimizer"] == "part_downpour"
    assert told["settings"]["share"] == 0.25
    log = (tmp_path / "run" / "logs" / "ps-0.log").read_text()
    [version] = re.findall(r"ends at version (\d+)", log)
    assert int(version) == 3  # Every second of six steps.


def test_a_center_server_refuses_a_wrong_file(tmp_path):
    config = {
        "cluster": {"worker": ["localhost:1"], "ps": ["localhost:2"]},
        "task": {"type": "ps", "index": 0},
    }
    serve = ("-m", "tf_elastic.cluster.ps")
    environment = {"TF_CONFIG": json.dumps(config)}
    environment[user_code.VARIABLE] = str(tmp_path / "no.py")
    _, error = run(*serve, status=2, **environment)
    assert f"There is no file {tmp_path / 'no.py'}" in error
    # The flag goes before the variable.
    other = tmp_path / "neither.py"
    _, error = run(*serve, f"--rules={other}", status=2, **environment)
    assert f"There is no file {other}" in error


def test_what_the_program_knows_needs_no_tensorflow():
    code = """
        import sys
        from tf_elastic.program import known_methods, settings
        parsed = settings.parse(["train.py", "--optimizer=AsyncMSGD"])
        assert parsed["optimizer"] == "async_msgd", parsed
        assert len(known_methods.all_methods()) == 17
        slow = {"tensorflow", "keras", "numpy"}
        assert not slow & set(sys.modules), slow & set(sys.modules)
    """
    run("-c", textwrap.dedent(code))


# Another value than the default of every flag that a method has.
VALUES = {
    "adjustment": "inverse",
    "average_from": 3,
    "averaging_rate": 0.2,
    "beta": 0.6,
    "center_average": "polyak",
    "communication_period": "4",
    "delay_compensation": 0.2,
    "elasticity": 0.7,
    "inner_optimizer": "rmsprop",
    "merge_weight": 0.6,
    "momentum": 0.3,
    "momentum_activation": 0.2,
    "momentum_delay": 3,
    "moving_rate": 0.1,
    "nesterov": False,
    "outer_learning_rate": 0.4,
    "outer_momentum": 0.2,
    "push_weight": 0.6,
    "regional_delay": 5,
    "regional_learning_rate": 0.9,
    "regional_momentum": 0.4,
    "staleness_scaling": True,
    "symmetric": False,
}


@pytest.mark.parametrize("option", known_methods._of_the_package())
def test_no_flag_is_lost_on_the_way_to_the_constructor(option, strategy):
    method = known_methods.all_methods()[option]
    assert set(VALUES) == set(known_methods.all_flags())
    given = {name: VALUES[name] for name in method.flags}
    for name, value in given.items():
        assert value != method.default(name, "digits"), name
    flags = [
        f"--{'' if value else 'no'}{name}"
        if isinstance(value, bool)
        else f"--{name}={value}"
        for name, value in given.items()
    ]
    parsed = parse(f"--optimizer={option}", "--learning_rate=0.125", *flags)
    with strategy(1, None).scope():
        made = building.make_optimizer(parsed)
    assert type(made) is registry.named(method.name).cls
    config = made.get_config()
    if given.pop("communication_period", None):
        assert config["communication_period"] == 4
    rated = made
    if given.pop("inner_optimizer", None):
        rated = made.inner_optimizer
        assert type(rated) is keras.optimizers.RMSprop
    assert float(rated.learning_rate.numpy()) == 0.125
    for name, value in given.items():
        assert config[name] == (
            value if isinstance(value, (bool, str)) else pytest.approx(value)
        ), name


# How the constructors are called.

OF_THE_PACKAGE = sorted(
    {
        cls
        for cls in map(optimizers.__dict__.get, optimizers.__all__)
        if inspect.isclass(cls) and issubclass(cls, keras.optimizers.Optimizer)
    },
    key=lambda cls: cls.__name__,
)
WITH_MOMENTUM = [
    cls
    for cls in OF_THE_PACKAGE
    if "momentum" in inspect.signature(cls).parameters
]


@pytest.mark.parametrize("cls", OF_THE_PACKAGE, ids=lambda cls: cls.__name__)
def test_only_the_first_argument_may_go_without_its_name(cls):
    first, *others = inspect.signature(cls).parameters.values()
    assert first.name in ("learning_rate", "inner_optimizer")
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    wrong = [
        each.name
        for each in others
        if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
    ]
    assert not wrong, f"{cls.__name__}: put `*` before {wrong[0]}."


def test_every_method_of_the_package_is_among_them():
    known = known_methods._of_the_package()
    assert {method.name for method in known.values()} <= {
        cls.__name__ for cls in OF_THE_PACKAGE
    }


@pytest.mark.parametrize("cls", WITH_MOMENTUM, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("momentum", [-0.1, 1.0, "much"])
def test_a_momentum_is_refused_alike(cls, momentum):
    message = r"`momentum` must be a number in \[0, 1\)"
    with pytest.raises(ValueError, match=message):
        cls(momentum=momentum)
