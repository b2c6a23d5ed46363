"""What is refused before TensorFlow starts, and what to do instead."""

import contextlib
import os
from collections.abc import Callable

from tf_elastic.program import data_checks
from tf_elastic.program import defaults
from tf_elastic.program import flag_table
from tf_elastic.program import group_checks
from tf_elastic.program import inside_checks
from tf_elastic.program import known_methods
from tf_elastic.program import rate_cuts
from tf_elastic.program import run_folder
from tf_elastic.program import tree_checks
from tf_elastic.program import usage
from tf_elastic.program import virtual_checks
from tf_elastic.program.flag import Settings

# What the baselines take too, of the flags of methods.
_OF_SGD = {"momentum", "nesterov"}
_OF_EXCHANGES = "beta moving_rate symmetric communication_period".split()
_LOCAL = "local_ps local_evaluator restart_workers status".split()


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing here, and why, by their names."""
    strategy = settings["strategy"]
    reasons = rate_cuts.without_effect(settings)
    reasons |= data_checks.without_effect(settings)
    if strategy in defaults.MIRRORED:
        elastic = strategy.replace("mirrored", "elastic_mirrored")
        if strategy in defaults.CLUSTER:
            elastic = "elastic_multi_worker"
        reasons |= dict.fromkeys(
            {
                *("advise", "optimizer", "rules", "order", "jit_compile"),
                *known_methods.all_flags(),
            }
            - _OF_SGD,
            f"--strategy={strategy} is the baseline with Keras' SGD, in which "
            f"nothing is exchanged. Leave it out, or choose "
            f"--strategy={elastic}",
        )
    else:
        reasons |= _without_effect_on_method(settings["optimizer"])
    return reasons | _without_effect_on_processes(settings)


def _without_effect_on_method(option: str) -> dict[str, str]:
    """The flags that a method does not take, as it was registered."""
    methods = known_methods.all_methods()
    method, reasons = methods[option], {}
    lacking = {flag.name: flag.lacking for flag in flag_table.all_flags()}
    for name in known_methods.all_flags():
        if name not in method.flags:
            why = lacking[name]
            if method.one_worker and name in _OF_EXCHANGES:
                why = "is sequential: its one worker shares nothing"
            reasons[name] = (
                f"--optimizer={option} {why}. Leave it out, or choose "
                f"--optimizer={known_methods.takers(name)[0]}"
            )
    for name, why in method.refuses.items():
        other = next(
            each.option for each in methods.values() if name not in each.refuses
        )
        reasons[name] = (
            f"--optimizer={option} has none: {why}. Leave it out, or choose "
            f"--optimizer={other}"
        )
    return reasons


def _without_effect_on_processes(settings: Settings) -> dict[str, str]:
    strategy, reasons = settings["strategy"], {}
    if strategy in defaults.CLUSTER:
        reasons["workers"] = (
            "the workers of a cluster are processes. Leave it out, or give "
            "--local_workers"
        )
    elif strategy != defaults.VIRTUAL:
        reasons |= dict.fromkeys(
            ("protocol", "compression", "max_lag", "events", "trusted_network"),
            "one process exchanges within itself. Leave it out, or give "
            "--local_workers",
        )
    if strategy == "multi_worker_mirrored":
        reasons |= dict.fromkeys(
            (
                *("protocol", "compression", "max_lag", "events"),
                *("local_ps", "local_evaluator"),
            ),
            "--strategy=multi_worker_mirrored has no center. Leave it out, or "
            "choose --strategy=elastic_multi_worker",
        )
        reasons |= dict.fromkeys(
            ("restart_workers", "status"),
            "the workers of --strategy=multi_worker_mirrored take every step "
            "together, so that none can be started again alone or be ahead. "
            "Leave it out, or choose --strategy=elastic_multi_worker",
        )
    if settings["local_workers"] is None:
        reasons |= dict.fromkeys(
            _LOCAL,
            "only --local_workers starts processes. Leave it out",
        )
    reasons |= group_checks.without_effect(settings)
    reasons |= inside_checks.without_effect(settings)
    reasons |= tree_checks.without_effect(settings)
    return reasons | virtual_checks.without_effect(settings)


def check_choices(settings: Settings, given: set[str]) -> None:
    """Refuses flags that would be ignored, by which is chosen."""
    strategy = settings["strategy"]
    reasons = without_effect(settings)
    for name in sorted(given & set(reasons)):
        raise usage.UsageError(
            f"--{name} has no effect here: {reasons[name]}. Received: "
            f"--{name}={settings[name]}."
        )
    virtual_checks.check_choices(settings)
    in_cluster = "TF_CONFIG" in os.environ
    if settings["local_workers"] is not None:
        if in_cluster:
            raise usage.UsageError(
                "--local_workers starts a cluster, and TF_CONFIG says that "
                "this is a process of one. Received: both. Leave "
                "--local_workers out, or unset TF_CONFIG."
            )
        if strategy not in defaults.CLUSTER:
            raise usage.UsageError(
                f"--local_workers starts processes, and --strategy={strategy} "
                "trains in one. Leave --strategy out, or choose "
                "--strategy=elastic_multi_worker."
            )
    elif strategy in defaults.CLUSTER and not in_cluster:
        raise usage.UsageError(
            f"--strategy={strategy} trains in a cluster, and nothing says "
            "where it is. Give --local_workers=4, say, to start one on this "
            "machine, or set TF_CONFIG."
        )
    if strategy == "multi_worker_mirrored" and settings["resume"]:
        raise usage.UsageError(
            "--resume is not for --strategy=multi_worker_mirrored. Begin anew "
            "in another --model_dir, or choose "
            "--strategy=elastic_multi_worker."
        )
    if settings["compression"] != "none" and (
        settings["protocol"] not in (None, "overlapped")
    ):
        raise usage.UsageError(
            f"--compression={settings['compression']} needs "
            f"--protocol=overlapped. Received: --protocol="
            f"{settings['protocol']}. Leave one of them out."
        )


def check_exchange(settings: Settings) -> None:
    """Refuses an order or a protocol that a method has not."""
    if settings["strategy"] in defaults.MIRRORED:
        return
    option = settings["optimizer"]
    method = known_methods.all_methods()[option]
    for name, allowed in (
        ("order", method.orders),
        ("protocol", method.protocols),
    ):
        value = settings[name]
        if value is not None and value not in allowed:
            raise usage.UsageError(
                f"--optimizer={option} has no --{name}={value}: "
                f"{method.refusal}. Received: --{name}={value}. Use "
                f"{' or '.join(f'--{name}={each}' for each in allowed)}, or "
                "leave it out."
            )


def check_sequential(settings: Settings) -> None:
    """Refuses several workers for a method of one."""
    optimizer, workers = settings["optimizer"], settings["workers"]
    if (
        settings["strategy"] in defaults.MIRRORED
        or not known_methods.all_methods()[optimizer].one_worker
        or workers == 1
    ):
        return
    if settings["local_workers"] is not None:
        received, instead = f"--local_workers={workers}", "--local_workers=1"
    elif settings["strategy"] == defaults.VIRTUAL:
        received = f"--virtual_workers={workers}"
        instead = "--virtual_workers=1"
    elif settings["strategy"] in defaults.CLUSTER:
        received = f"TF_CONFIG with {workers} workers"
        instead = "a cluster of one"
    else:
        received, instead = f"--workers={workers}", "--workers=1"
    raise usage.UsageError(
        f"--optimizer={optimizer} is a sequential method, for one worker. "
        f"Received: {received}. Use {instead}, or "
        "--optimizer=easgd for several workers."
    )


# (flag, test, rule)
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    # Before `workers`, which follows from it.
    ("local_workers", lambda v: v >= 1, "at least 1"),
    ("virtual_workers", lambda v: v >= 1, "at least 1"),
    ("most_waiting", lambda v: v >= 1, "at least 1"),
    ("workers", lambda v: v >= 1, "at least 1"),
    ("local_ps", lambda v: v >= 1, "at least 1"),
    ("group_size", lambda v: v >= 1, "at least 1"),
    ("devices_per_process", lambda v: v >= 1, "at least 1"),
    ("outer_period", lambda v: v >= 1, "at least 1"),
    ("max_lag", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("step_seconds", lambda v: 0 < v < float("inf"), "finite, above 0"),
    ("timing_seed", lambda v: 0 <= v < 2**31, "from 0 to 2**31 - 1"),
    ("quorum", lambda v: v >= 1, "at least 1"),
    ("max_staleness", lambda v: v >= 1, "at least 1"),
    ("gpu_memory_mb", lambda v: v >= 1, "at least 1"),
    ("learning_rate", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("learning_rate_decay", lambda v: v >= 0, "at least 0"),
    ("rate_window", lambda v: v >= 1, "at least 1"),
    ("rate_patience", lambda v: v >= 1, "at least 1"),
    ("momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("beta", lambda v: 0 <= v < float("inf"), "finite, at least 0"),
    ("moving_rate", lambda v: abs(v) < float("inf"), "finite"),
    ("averaging_rate", lambda v: 0 < v <= 1, "in (0, 1]"),
    ("weight_decay", lambda v: v >= 0, "at least 0"),
    ("delay_compensation", lambda v: v >= 0, "at least 0"),
    ("outer_learning_rate", lambda v: v >= 0, "at least 0"),
    ("outer_momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("momentum_delay", lambda v: v >= 1, "at least 1"),
    ("momentum_activation", lambda v: 0 <= v <= 1, "from 0 to 1"),
    ("regional_learning_rate", lambda v: v >= 0, "at least 0"),
    ("regional_momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("regional_delay", lambda v: v >= 1, "at least 1"),
    ("merge_weight", lambda v: 0 <= v <= 1, "in [0, 1]"),
    ("push_weight", lambda v: 0 < v <= 1, "in (0, 1]"),
    ("elasticity", lambda v: v >= 0, "at least 0"),
    ("clipnorm", lambda v: v > 0, "more than 0"),
    ("gradient_accumulation_steps", lambda v: v >= 2, "at least 2"),
    ("epochs", lambda v: v >= 1, "at least 1"),
    ("steps_per_epoch", lambda v: v >= 1, "at least 1"),
    ("stored_size", lambda v: v >= 1, "at least 1"),
    ("steps_per_execution", lambda v: v >= 1, "at least 1"),
    ("seed", lambda v: 0 <= v < 2**31, "from 0 to 2**31 - 1"),
)


def check_ranges(settings: Settings) -> None:
    """Refuses numbers out of range, alone or together."""
    for name, is_right, rule in _RANGES:
        value = settings[name]
        if value is not None and not is_right(value):
            raise usage.UsageError(
                f"--{name} must be {rule}. Received: --{name}={value}. "
                "Leave it out for the default."
            )
    data_checks.check_variant(settings)
    images = defaults.NUM_TRAIN[settings["dataset"]]
    if not 1 <= settings["batch_size"] <= images:
        raise usage.UsageError(
            f"--batch_size must be from 1 to {images}, the training images "
            f"of {settings['dataset']}. Received: --batch_size="
            f"{settings['batch_size']}. Leave it out for the default."
        )
    period = settings["communication_period"]
    is_count = period is None or (period.isdecimal() and int(period) >= 1)
    if period != "none" and not is_count:
        raise usage.UsageError(
            "--communication_period must be an integer, at least 1 (1: "
            "exchange at every step), or none. Received: "
            f"--communication_period={period}. The default is 10."
        )
    group_checks.check(settings)
    inside_checks.check(settings)
    rate_cuts.check(settings)
    _check_average(settings)
    every = settings["gradient_accumulation_steps"]
    if every is not None and settings["mixed_precision"] == "float16":
        raise usage.UsageError(
            "--gradient_accumulation_steps cannot be combined with "
            "--mixed_precision=float16. Use --mixed_precision=bfloat16, or a "
            "larger --batch_size."
        )


def _check_average(settings: Settings) -> None:
    """Refuses what is no average, and the beginning of none."""
    start = settings["average_from"]
    if start not in (None, "first_cut") and not start.isdecimal():
        raise usage.UsageError(
            "--average_from must be an integer, at least 0, or first_cut. "
            f"Received: --average_from={start}. The default is 0."
        )
    average = settings["center_average"]
    if average is None:  # A method that has no choice.
        return
    is_none, is_known = average == "none", average in ("none", "polyak")
    with contextlib.suppress(ValueError):
        is_known = is_known or 0 < float(average) <= 1
    if is_none and start not in (None, "0"):
        raise usage.UsageError(
            "--average_from needs an average to begin. Received: "
            f"--average_from={start}, without --center_average. Give "
            "--center_average=polyak too."
        )
    if not is_known:
        raise usage.UsageError(
            "--center_average must be none, polyak, or a rate in (0, 1]. "
            f"Received: --center_average={average}. The default is none."
        )


def check_rates(settings: Settings) -> None:
    """Refuses a beta and a moving rate that contradict each other."""
    beta, alpha = settings["beta"], settings["moving_rate"]
    if settings["symmetric"] is None:  # A method without these rates.
        return
    if not settings["symmetric"]:
        if beta is None or alpha is None:
            raise usage.UsageError(
                "--nosymmetric needs both --beta and --moving_rate. Received: "
                f"--beta={beta}, --moving_rate={alpha}. Give both, or leave "
                "--nosymmetric out."
            )
        return
    if alpha is not None and alpha < 0:
        raise usage.UsageError(
            "--moving_rate must be at least 0, but with --nosymmetric. "
            f"Received: --moving_rate={alpha:g}."
        )
    if beta is None or alpha is None:
        return
    workers = settings["workers"]
    if abs(beta - workers * alpha) > 1e-6 * max(beta, 1e-12):
        raise usage.UsageError(
            "--beta must equal workers * moving_rate. Received: --beta="
            f"{beta:g}, --moving_rate={alpha:g}, with {workers} workers. Give "
            f"one of them (--moving_rate={alpha:g} means --beta="
            f"{workers * alpha:g}), or add --nosymmetric to choose both."
        )


def check_files(settings: Settings) -> None:
    """Looks for the folders and packages that will be needed."""
    for name in ("data_dir", "logdir", "model_dir", "plot", "report", "events"):
        if settings[name]:
            settings[name] = os.path.expanduser(settings[name])
    data_checks.check_folder(settings)
    if settings["plot"]:
        if not settings["plot"].endswith(".png"):
            raise usage.UsageError(
                f"--plot must end in .png. Received: --plot={settings['plot']}."
            )
        usage.require("matplotlib", "--plot", "or leave --plot out")
    if settings["logdir"]:
        usage.require("tensorboard", "--logdir", "or leave --logdir out")
    folder = settings["model_dir"]
    if folder and not settings["resume"] and "TF_CONFIG" not in os.environ:
        if any(
            os.path.exists(os.path.join(folder, name))
            for name in (run_folder.BACKUP, run_folder.CENTERS)
        ):
            raise usage.UsageError(
                f"--model_dir={folder} holds a run already. Add --resume to "
                "go on with it, or begin anew in another --model_dir."
            )
