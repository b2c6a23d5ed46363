"""The advisor's answers: what they name, and that it is so."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tf_elastic import theory
from tf_elastic.theory import delay_equations
from tf_elastic.theory import gauss_seidel
from tf_elastic.theory import multiplicative
from tf_elastic.theory import quadratic
from tf_elastic.theory import round_robin
from tf_elastic.theory.advise import RULES
from tf_elastic.theory.advise import __main__ as command
from tf_elastic.theory.advise import speed

UNSTABLE = (
    {"rule": "EASGD", "learning_rate": 2.5},
    {
        "rule": "EASGD",
        "learning_rate": 0.1,
        "moving_rate": 0.6,
        "num_workers": 3,
    },
    {"rule": "EASGD", "learning_rate": 0.1, "moving_rate": 0.2, "beta": 2.2},
    {
        "rule": "EAMSGD",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "num_workers": 1,
        "protocol": "overlapped",
    },
    {
        "rule": "Downpour",
        "learning_rate": 0.3,
        "communication_period": 8,
        "num_workers": 8,
        "protocol": "gauss_seidel",
    },
    {
        "rule": "AsyncMSGD",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "num_workers": 8,
    },
    {
        "rule": "MDownpour",
        "learning_rate": 0.05,
        "momentum": 0.99,
        "num_workers": 4,
    },
    {
        "rule": "AsyncMSGD",
        "learning_rate": 0.2,
        "momentum": 0.8,
        "staleness": [1, 2, 5],
    },
    {"rule": "LocalSGD", "learning_rate": 2.2},
    {"rule": "DiLoCo", "learning_rate": 0.5, "outer_learning_rate": 3.0},
    {"rule": "AsyncDiLoCo", "learning_rate": 0.5, "outer_learning_rate": 3.0},
    {"rule": "SyncSGD", "learning_rate": 4.2, "momentum": 0.9},
    {
        "rule": "ADMM",
        "learning_rate": 0.001,
        "elasticity": 2.5,
        "num_workers": 3,
    },
)


@pytest.mark.parametrize("setting", UNSTABLE)
def test_the_nearest_stable_setting_is_stable_and_near(setting):
    advice = theory.advise(curvature=1.0, **setting)
    assert not advice.stable and advice.radius > 1 and advice.margin < 1
    name, value = advice.nearest_stable
    changed = setting | {name: value}
    assert theory.advise(curvature=1.0, **changed).stable
    # Most of the way is not enough.
    present = setting.get(name, 0.9 / setting.get("num_workers", 4))
    if name != "communication_period" and "momentum" not in name:
        halfway = present * (value / present) ** 0.8
        changed = setting | {name: halfway}
        assert not theory.advise(curvature=1.0, **changed).stable
    assert f"{name}={value:g}" in str(advice)


@pytest.mark.parametrize(
    "setting", [*UNSTABLE, {"rule": "EASGD", "learning_rate": 0.3}]
)
def test_the_margin_is_the_learning_rates_bound(setting):
    margin = theory.advise(curvature=1.0, **setting).margin
    if margin == 0:  # No learning rate helps.
        tiny = setting | {"learning_rate": 1e-3 * setting["learning_rate"]}
        assert not theory.advise(curvature=1.0, **tiny).stable
        return
    for share, stable in ((0.99, True), (1.01, False)):
        rate = setting["learning_rate"] * margin * share
        changed = setting | {"learning_rate": rate}
        assert theory.advise(curvature=1.0, **changed).stable == stable


def stable(**setting):
    return theory.advise(**setting).stable


def test_it_agrees_with_the_closed_forms_of_the_thesis():
    """Cell by cell, where a closed form reaches."""
    wrong = []
    cells = itertools.product((0.05, 1.0, 1.8), (0.05, 0.3, 0.55, 0.9), (1, 4))
    for eta, alpha, p in cells:
        common = {"learning_rate": eta, "moving_rate": alpha}
        closed = {
            "jacobi": quadratic.is_stable(
                curvature=1.0, num_workers=p, beta=p * alpha, **common
            ),
            "round_robin": round_robin.easgd_is_stable(**common),
            "gauss_seidel": gauss_seidel.is_stable(
                beta=p * alpha, num_workers=p, **common
            ),
        }
        for protocol, expected in closed.items():
            found = stable(
                rule="EASGD",
                protocol=protocol,
                num_workers=p,
                communication_period=1,
                curvature=1.0,
                **common,
            )
            if found != expected:
                wrong.append((protocol, eta, alpha, p))
    for p, eta in itertools.product((2, 4, 16), (0.02, 0.2, 0.4, 0.9)):
        found = stable(
            rule="Downpour",
            protocol="gauss_seidel",
            learning_rate=eta,
            num_workers=p,
            curvature=1.0,
        )
        limit = gauss_seidel.downpour_learning_rate_limit(p)
        if found != (eta < limit):
            wrong.append(("downpour", p, eta))
    assert not wrong


@pytest.mark.parametrize("staleness", [3, 3.5, 4])
def test_an_expected_staleness_must_bear_both_whole_numbers(staleness):
    bound = delay_equations.largest_stable_eta_h(int(np.ceil(staleness)), 0.5)
    for share in (0.99, 1.01):
        assert (share < 1) == stable(
            rule="AsyncMSGD",
            learning_rate=share * bound,
            momentum=0.5,
            curvature=1.0,
            staleness=staleness,
        )


def test_the_same_delay_measured_often_is_a_constant_one():
    for eta in (0.05, 0.2):
        common = {
            "rule": "AsyncMSGD",
            "learning_rate": eta,
            "momentum": 0.5,
            "curvature": 1.0,
        }
        assert theory.advise(staleness=[4] * 9, **common).radius == (
            pytest.approx(theory.advise(staleness=4, **common).radius)
        )


@pytest.mark.parametrize("delays", [[0, 0, 1, 3], [2, 5, 9, 17]])
def test_delays_that_are_drawn_have_the_mean_squares_factor(delays):
    """Against the whole map of the mean squares, a Kronecker product."""
    eta, mu = 0.05, 0.4
    size = max(delays) + 2
    total = 0.0
    for delay in delays:
        step = np.eye(size, k=-1)
        step[0, 0] += 1 + mu
        step[0, 1] -= mu
        step[0, delay] -= eta
        total = total + np.kron(step, step) / len(delays)
    advice = theory.advise(
        rule="AsyncMSGD",
        learning_rate=eta,
        momentum=mu,
        staleness=delays,
        curvature=1.0,
    )
    assert advice.radius**2 == pytest.approx(
        theory.spectral_radius(total), rel=1e-7
    )


def test_the_best_momentum_of_one_worker_is_the_thesis():
    for eta_h in (0.01, 0.1, 0.5):
        advice = theory.advise(
            rule="MDownpour", num_workers=1, learning_rate=eta_h, curvature=1.0
        )
        # Nesterov's, eq. 5.8: (1 - sqrt(eta h)) / (1 + sqrt(eta h)).
        best = (1 - eta_h**0.5) / (1 + eta_h**0.5)
        assert advice.best_momentum == pytest.approx(best, abs=0.015)


def test_the_best_momentum_falls_with_the_delay():
    best = [
        theory.advise(
            rule="AsyncMSGD", learning_rate=0.01, curvature=1.0, staleness=s
        ).best_momentum
        for s in (0, 2, 5, 10, 20)
    ]
    assert best == sorted(best, reverse=True) and best[0] > 0.7 > best[-1]
    radii = delay_equations.delayed_sgd_radius(
        0.01, 5, np.linspace(0, 0.99, 400)
    )
    assert best[2] == pytest.approx(
        np.linspace(0, 0.99, 400)[radii.argmin()], abs=0.01
    )


def test_workers_that_help_are_the_thesis():
    """Section 5.2.3: six for normal inputs at their best learning rate."""
    best = multiplicative.optimal_num_workers(
        shape=0.5, rate=0.5, learning_rate=0.3815, tolerance=speed.TOLERANCE
    )
    advice = theory.advise(
        rule="EASGD", learning_rate=0.3815, curvature=1.0, input_shape=0.5
    )
    assert advice.useful_workers == best.num_workers
    assert f"Beyond {best.num_workers} workers" in str(advice)


def test_workers_that_push_help_until_they_are_too_late():
    few, many = (
        theory.advise(
            rule="AsyncMSGD", learning_rate=eta, momentum=0.0, curvature=1.0
        ).useful_workers
        for eta in (0.2, 0.02)
    )
    assert 1 <= few < many < 64


def test_a_mean_of_many_workers_helps_until_noise_is_gone():
    """By plain runs of the model: random curvature, tau = 3."""
    eta, tau, shape = 0.2, 3, 0.5
    useful = theory.advise(
        rule="LocalSGD",
        learning_rate=eta,
        curvature=1.0,
        communication_period=tau,
        input_shape=shape,
    ).useful_workers
    rng = np.random.default_rng(0)
    xi = rng.gamma(shape, 1 / shape, size=(100_000, 64, tau))
    each = np.prod(1 - eta * xi, axis=2)

    def speed_of(p):
        return -np.log(np.mean(each[:, :p].mean(axis=1) ** 2))

    limit = -np.log((1 - eta) ** (2 * tau))
    assert 1 < useful < 64
    assert speed_of(useful) == pytest.approx((1 - 0.05) * limit, rel=0.02)
    assert speed_of(max(useful // 2, 1)) < 0.93 * limit


@pytest.mark.parametrize("rule", RULES)
def test_each_sentence_has_an_equation_and_its_worth(rule):
    advice = theory.advise(
        rule=rule,
        learning_rate=0.01,
        curvature=(0.1, 1.0),
        num_workers=1 if rule in ("AveragedSGD", "MovingAverageSGD") else 3,
    )
    assert len(advice.statements) >= 2
    for statement in advice.statements:
        assert statement.text.endswith(".")
        assert any(
            word in statement.equation
            for word in ("eq.", "eqs.", "Algorithm", "section")
        )
        assert len(statement.trust) > 10
    assert all(len(line) <= 79 for line in str(advice).splitlines())


def test_curvatures_are_a_number_a_range_or_a_list():
    """ADMM has gaps: what counts is every curvature that is named."""
    setting = {
        "rule": "ADMM",
        "learning_rate": 0.001,
        "elasticity": 2.5,
        "num_workers": 3,
    }
    assert not stable(curvature=1.0, **setting)
    assert stable(curvature=3.0, **setting)
    assert stable(curvature=[3.0, 4.0], **setting)
    assert not stable(curvature=[3.0, 1.0, 4.0], **setting)
    assert not stable(curvature=(0.5, 3.0), **setting)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule": "SGD"}, "`rule` must be one of"),
        ({"protocol": "now"}, "`protocol` must be one of"),
        ({"rule": "ADMM", "protocol": "jacobi"}, "`protocol` must be one of"),
        ({"num_workers": 0}, "`num_workers` must be"),
        ({"rule": "AveragedSGD"}, "`num_workers` must be 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"curvature": -1.0}, "`curvature` must be positive"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\)"),
        ({"rule": "Downpour", "momentum": 0.5}, "`momentum` must be 0"),
        ({"moving_rate": -0.1}, "`moving_rate` must be"),
        ({"communication_period": 0}, "`communication_period` must be"),
        ({"rule": "AsyncMSGD", "communication_period": 5}, "must be 1 with"),
        ({"rule": "AsyncMSGD", "staleness": -1}, "`staleness` must be"),
        ({"rule": "AsyncMSGD", "staleness": [0.5, 1]}, "`staleness` must be"),
        ({"input_shape": 0.0}, "`input_shape` must be positive"),
    ],
)
def test_wrong_arguments(changed, message):
    with pytest.raises(ValueError, match=message):
        theory.advise(**{"learning_rate": 0.1, "curvature": 1.0} | changed)


def test_it_is_a_function_and_a_program():
    """Whichever is imported first; and nobody is warned by runpy."""
    code = (
        "import tf_elastic.theory.advise, tf_elastic.theory.advise.__main__\n"
        "from tf_elastic import theory\n"
        "assert callable(theory.advise), theory.advise\n"
        "theory.advise(learning_rate=0.1, curvature=1.0)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    arguments = "--rule=Downpour --learning_rate=1.5 --curvature 0.1 1".split()
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "tf_elastic.theory.advise",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.startswith("UNSTABLE.")


def test_the_command_line(capsys):
    flags = "--rule=EAMSGD --learning_rate=0.01 --momentum=0.9 --num_workers=2"
    assert command.main([*flags.split(), "--curvature", "1", "10"]) == 0
    out = capsys.readouterr().out
    assert (
        out
        == str(
            theory.advise(
                rule="EAMSGD",
                learning_rate=0.01,
                momentum=0.9,
                num_workers=2,
                curvature=(1.0, 10.0),
            )
        )
        + "\n"
    )
    with pytest.raises(SystemExit) as end:
        command.main([*flags.split(), "--curvature", "-1"])
    assert end.value.code == 2
    assert "`curvature` must be positive" in capsys.readouterr().err
