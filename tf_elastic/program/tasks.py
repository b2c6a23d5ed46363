"""Which process of a cluster this is, and what it does."""

import os
import signal
from typing import TYPE_CHECKING

from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import loading
from tf_elastic.program import run_folder
from tf_elastic.program import tree_run
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.cluster.launch.configuration import ClusterConfiguration


def of_this_process(settings: Settings) -> "ClusterConfiguration | None":
    """The `ClusterConfiguration` of TF_CONFIG; None outside of a cluster.

    Raises:
        UsageError: TF_CONFIG is wrong.
    """
    if settings["strategy"] not in defaults.CLUSTER or (
        settings["local_workers"] is not None
    ):
        return None
    from tf_elastic.cluster.launch.configuration import ClusterConfiguration

    with usage.explained("See docs/cluster.md for TF_CONFIG."):
        return ClusterConfiguration.from_tf_config(
            needs_centers=settings["strategy"] in defaults.WITH_CENTERS
        )


def serve_center(settings: Settings, task: "ClusterConfiguration") -> int:
    """Is a center server until it is told to end; returns the exit status."""
    from tf_elastic.cluster.center import ps

    if settings["strategy"] == defaults.TREE:
        tree_run.tell_this_process(settings)
    arguments = ["ps"]
    if settings["model_dir"]:
        folder = os.path.join(
            settings["model_dir"], run_folder.CENTERS, f"ps-{task.index}"
        )
        arguments.append(f"--snapshot_dir={folder}")
    if settings["trusted_network"]:
        arguments.append("--trusted_network")
    return ps.main(arguments)


def evaluate(settings: Settings) -> int:
    """Evaluates the center until all workers are done."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A local cluster keeps the GPUs for its workers.
    settings = {**settings, "device": settings["device"].replace("gpu", "auto")}
    # To the centers its process is the same as one whose devices are workers.
    alone = dict.fromkeys(("devices_per_process", "order", "outer_period"))
    settings |= {**alone, "inside": "mirrored"}
    with loading.libraries():
        import keras

        from tf_elastic import monitor
        from tf_elastic.program import building
        from tf_elastic.program import devices

        strategy = devices.make_strategy(settings)
    keras.utils.set_random_seed(settings["seed"])
    model = building.make_model(settings, strategy)
    _, test_data, _ = building.load_data(settings, 0, task=None)
    best = settings["model_dir"] and os.path.join(
        settings["model_dir"], run_folder.BEST
    )
    logdir = settings["logdir"] and os.path.join(
        settings["logdir"], "evaluator"
    )
    evaluator = monitor.CenterEvaluator(
        model, test_data, log_dir=logdir, best_path=best
    )
    # Once told to end, one last look: the workers may just have finished.
    signal.signal(signal.SIGTERM, lambda *_: evaluator.stop())
    for seen in evaluator.evaluations():
        console.say(
            f"version {seen.version}: "
            + ", ".join(f"{k} {v:.4f}" for k, v in seen.values.items())
            + (" (best so far)" if seen.is_best else "")
        )
    return 0


def own_part(
    settings: Settings, task: "ClusterConfiguration | None"
) -> Settings:
    """The settings of a process: only the chief writes files."""
    if task is None or task.is_chief:
        return settings
    silent = dict.fromkeys(("model_dir", "logdir", "plot", "report"))
    return {**settings, **silent, "verbose": "2"}
