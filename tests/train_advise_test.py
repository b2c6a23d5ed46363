"""train.py --advise: what it prints, and that it asks for these settings."""

import pytest

import train
from tf_elastic import monitor
from tf_elastic import theory
from tf_elastic.optimizers import registry
from tf_elastic.program import advising
from tf_elastic.program import building
from tf_elastic.program import known_methods
from tf_elastic.program import settings
from tf_elastic.program import usage
from tf_elastic.theory.advise import RULES


@pytest.fixture
def asked(monkeypatch):
    """What `theory.advise` is asked, at a curvature of 10."""
    calls = []

    def advise(**kwargs):
        calls.append(kwargs)
        return theory.Advice(True, 0.5, 1.0, None, None, None, ())

    monkeypatch.setattr(theory, "advise", advise)
    monkeypatch.setattr(
        monitor,
        "largest_curvature",
        lambda *_: theory.curvature.Curvature(10.0, None, 0.1, 1),
    )
    monkeypatch.setattr(building, "make_model", lambda *_: pytest.fail("train"))

    def ask(*flags):
        assert train.main(["train.py", "--advise", *flags]) == 0
        return calls[-1]

    return ask


def test_the_whole_of_it(capsys):
    argv = "--optimizer=async_msgd --workers=8 --momentum=0.97 --advise"
    assert train.main(["train.py", *argv.split()]) == 0
    out = capsys.readouterr().out
    assert "Largest curvature of" in out and "on a batch of 32" in out
    assert "UNSTABLE." in out and "AsyncMSGD with 8 workers" in out
    assert "gradients 7 updates late" in out
    assert "nearest stable setting is momentum=" in out
    assert "Trust:" in out and "Liu et al. (2018)" in out
    assert "Epoch" not in out


def test_a_virtual_cluster_has_a_protocol(asked):
    found = asked("--virtual_workers=3", "--protocol=blocking")
    assert (found["num_workers"], found["protocol"]) == (3, "blocking")
    assert asked("--virtual_workers=3")["protocol"] is None


def test_the_settings_are_passed_on(asked):
    assert asked(
        "--workers=3", "--order=round_robin", "--beta=0.6", "--nonesterov"
    ) == {
        "rule": "EAMSGD",
        "learning_rate": 0.05,
        "num_workers": 3,
        "protocol": "round_robin",
        "communication_period": 10,
        "momentum": 0.9,
        "nesterov": False,
        "beta": 0.6,
        "curvature": (pytest.approx(0.1), 10.0),
    }
    given = asked("--optimizer=diloco", "--outer_momentum=0.5")
    assert given["outer_momentum"] == 0.5
    assert given["communication_period"] == 50
    assert asked("--optimizer=averaged_sgd")["num_workers"] == 1
    alone = asked("--communication_period=none")
    assert (alone["rule"], alone["num_workers"]) == ("AveragedSGD", 1)
    assert asked("--local_workers=5")["num_workers"] == 5
    rates = asked(
        "--optimizer=easgd", "--nosymmetric", "--beta=1", "--moving_rate=0.1"
    )
    assert (rates["beta"], rates["moving_rate"]) == (1.0, 0.1)


@pytest.mark.parametrize(
    "optimizer",
    [o for o in known_methods.all_methods() if o not in ("heloco", "halos")],
)
@pytest.mark.parametrize("cluster", ["", "--local_workers=1"])
def test_every_optimizer_can_be_asked_about(optimizer, cluster):
    flags = ["train.py", f"--optimizer={optimizer}", "--advise"]
    given = advising._arguments(
        settings.parse([*flags, *([cluster] if cluster else [])])
    )
    assert theory.advise(curvature=1.0, **given).statements


def test_the_advisor_knows_every_method_and_its_exchanges():
    methods = registry.listed()
    unknown = [method.name for method in methods if not method.advised_as]
    # One is not linear, the other has two levels of servers.
    assert sorted(unknown) == ["HALoS", "HeLoCo"]
    assert {method.advised_as for method in methods} - {None} == set(RULES)
    for method in methods:
        if method.name in unknown:
            continue
        rule = RULES[method.advised_as]
        assert set(rule.meetings) == {*method.orders, *method.protocols}
        assert next(iter(rule.meetings)) == method.orders[0]


def test_what_is_not_linear_has_no_advice():
    parsed = settings.parse(["train.py", "--optimizer=heloco", "--advise"])
    with pytest.raises(usage.UsageError, match="nothing to say"):
        advising._arguments(parsed)


def test_the_baseline_has_no_advice(capsys):
    assert train.main(["train.py", "--strategy=mirrored", "--advise"]) == 2
    assert "--advise has no effect here" in capsys.readouterr().err
