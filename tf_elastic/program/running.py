"""A run from the first epoch to the report."""

import contextlib
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tf_elastic import files as whole_files
from tf_elastic.program import backup
from tf_elastic.program import building
from tf_elastic.program import cluster_run
from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import devices
from tf_elastic.program import inside_checks
from tf_elastic.program import loading
from tf_elastic.program import rate_cuts
from tf_elastic.program import resuming
from tf_elastic.program import run_folder
from tf_elastic.program import usage
from tf_elastic.program import virtual_run
from tf_elastic.program.flag import Settings
from tf_elastic.program.history_file import HistoryFile
from tf_elastic.timeline import event_file

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_elastic.callbacks import ElasticMonitor
    from tf_elastic.cluster.launch.configuration import ClusterConfiguration
    from tf_elastic.monitor import RunClock
    from tf_elastic.monitor.run_report import Report

# What Keras tells of an epoch.
Logs = Mapping[str, float] | None


def train(
    settings: Settings, task: "ClusterConfiguration | None" = None
) -> "Report | None":
    """Trains, tests and saves.

    Args:
        settings: what `settings.parse` returned.
        task: the `ClusterConfiguration` of this process, or None.

    Returns:
        The report, see `tf_elastic.monitor.build_report`; None on a worker
        that is not the chief of its cluster.

    Raises:
        UsageError: a file could not be written, after all else was done.
    """
    began = time.perf_counter()
    run_folder.make(settings)
    # TensorFlow's own notes on devices and instructions help nobody here;
    # where ops are deterministic it also calls a rewrite of its own an error.
    level = "3" if settings["deterministic"] else "2"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    with loading.libraries():
        import keras
        import tensorflow as tf

        from tf_elastic import monitor
        from tf_elastic.callbacks import ElasticMonitor

        strategy = devices.make_strategy(settings)
        _tell_of_xla(settings, strategy)
    keras.utils.set_random_seed(settings["seed"])
    if settings["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    model = building.make_model(settings, strategy)
    in_cluster = settings["strategy"] in defaults.WITH_CENTERS
    if in_cluster:
        first_epoch = cluster_run.epochs_done(settings, strategy)
    elif settings["resume"]:
        first_epoch = resuming.restore(model, settings)
    else:
        first_epoch = 0
    train_data, test_data, train_eval = building.load_data(
        settings, first_epoch * settings["steps_per_epoch"], task
    )
    if settings["model_dir"] and task is None:
        run_folder.write_settings(settings)
        if settings["strategy"] == defaults.VIRTUAL:
            virtual_run.keep_timing(settings)
    _announce(settings, first_epoch)

    in_turn = settings["strategy"] == defaults.VIRTUAL
    workers_here = settings["workers"]
    if in_cluster or in_turn:
        workers_here = inside_checks.workers_of_process(settings)
    global_batch = workers_here * settings["batch_size"]
    is_chief = task is None or task.is_chief
    # Under a mirrored strategy all workers evaluate together.
    evaluates = is_chief or not in_cluster
    clock = monitor.RunClock(began)
    watch = ElasticMonitor(
        center_data=train_eval if evaluates else None,
        center_steps=min(6, int(train_eval.cardinality())),
        log_dir=settings["logdir"],
        global_batch_size=global_batch,
        run_clock=clock,
    )
    try:
        history = model.fit(
            train_data.repeat() if in_cluster else train_data,
            epochs=settings["epochs"],
            validation_data=test_data if evaluates else None,
            callbacks=_callbacks(settings, watch, clock),
            shuffle=False,
            verbose=int(settings["verbose"]),
            initial_epoch=first_epoch,
        )
    except BaseException:
        if in_cluster:
            strategy.leave()  # Else its part would count as done.
        raise
    if not evaluates:
        return None
    # Others may train on: what is saved and told is what was tested.
    holding = getattr(
        strategy.extended, "holding_center", contextlib.nullcontext
    )
    with holding():
        with clock.during("validation"):
            test = model.evaluate(test_data, verbose=0, return_dict=True)
        if not is_chief:
            return None
        with clock.during("saving"):
            files, damages = _write_files(settings, model, history)
        parts = clock.parts(watch.times)
        report = monitor.build_report(
            model,
            test,
            watch.times,
            wall_s=sum(parts.values()),
            steps=clock.steps,
            parts=parts,
            global_batch_size=global_batch,
            settings=settings,
            files=files,
        )
    if settings["report"]:
        with _noted(damages):
            monitor.write_report(report, settings["report"])
    console.say(monitor.format_report(report))
    if damages:
        raise usage.UsageError("\n".join(damages))
    return report


@contextlib.contextmanager
def _noted(damages: list[str]) -> Iterator[None]:
    """What cannot be written inside is told at the end."""
    try:
        yield
    except whole_files.FileNotWrittenError as error:
        damages.append(str(error))


def _tell_of_xla(
    settings: Settings, strategy: "tf.distribute.Strategy"
) -> None:
    """Lets TensorFlow say that XLA is used, which it does once, now.

    Some releases (2.20) do whatever the level of the log.
    """
    from tf_elastic.optimizers import compiled

    if (
        settings["jit_compile"] != "false"
        and settings["strategy"] not in defaults.MIRRORED
    ):
        compiled.is_compiled_for(strategy.extended.worker_devices[0], "auto")


def _callbacks(
    settings: Settings, watch: "ElasticMonitor", clock: "RunClock"
) -> "list[keras.callbacks.Callback]":
    """What goes along with `fit`: the monitor, the bar, history, backups."""
    import keras

    def on_epoch_end(
        do: Callable[[int, Logs], None],
    ) -> keras.callbacks.Callback:
        told = False

        def save(epoch: int, logs: Logs) -> None:
            nonlocal told
            with clock.during("saving"):
                try:
                    do(epoch, logs)
                    told = False
                except whole_files.FileNotWrittenError as error:
                    if not told:
                        console.complain(f"{error} Training goes on.")
                    told = True

        return keras.callbacks.LambdaCallback(on_epoch_end=save)

    in_cluster = settings["strategy"] in defaults.WITH_CENTERS
    callbacks = [watch]
    if settings["verbose"] != "0":
        # Before the monitor, so that its many numbers stay out of the bar.
        callbacks.insert(0, keras.callbacks.ProgbarLogger())
    if settings["strategy"] == defaults.VIRTUAL:
        callbacks.insert(0, virtual_run.virtual_time(settings))
    if in_cluster:
        callbacks.append(cluster_run.shared_epochs(settings))
    if settings["rate_cuts"]:
        callbacks.append(rate_cuts.callback(settings))
    folder = settings["model_dir"]
    if folder:
        history = HistoryFile(
            os.path.join(folder, run_folder.HISTORY),
            goes_on=settings["resume"] or in_cluster,
        )
        callbacks.append(on_epoch_end(history.note))
        # In a cluster the center servers take snapshots.
        if settings["strategy"] not in defaults.CLUSTER:
            backups = os.path.join(folder, run_folder.BACKUP)
            callbacks.append(
                on_epoch_end(
                    lambda epoch, _: backup.save(
                        watch.model, backups, epoch + 1
                    )
                )
            )
    return clock.around(callbacks)


def _write_files(
    settings: Settings,
    model: "keras.Model",
    history: "keras.callbacks.History",
) -> tuple[dict[str, str], list[str]]:
    """Saves the center and plots the run.

    Returns:
        All files, for the report; and what to say of those that could not be
        written.
    """
    from tf_elastic import monitor

    files = {}
    damages: list[str] = []
    folder = settings["model_dir"]
    if folder:
        path = os.path.join(folder, run_folder.MODEL)
        with _noted(damages), whole_files.whole(path) as partial:
            model.save(partial)
        if not damages:
            files["model"] = path
        backups = os.path.join(folder, run_folder.BACKUP)
        if os.path.exists(backups):
            files["backup"] = backups
    if settings["plot"]:
        values: keras.callbacks.History | dict[str, list[float]] = history
        path = os.path.join(folder or "", run_folder.HISTORY)
        if folder and os.path.exists(path):
            values = run_folder.whole_history(path)
        if isinstance(values, dict) or history.epoch:
            with _noted(damages):
                monitor.plot_history(
                    values,
                    settings["plot"],
                    steps_per_epoch=settings["steps_per_epoch"],
                    title=_title(settings),
                )
                files["plot"] = settings["plot"]
    if settings["logdir"]:
        files["tensorboard"] = settings["logdir"]
    events = event_file.to_file(None)
    if events and settings["strategy"] in defaults.WITH_CENTERS:
        files["events"] = events.path
    if settings["events"] and settings["strategy"] == defaults.VIRTUAL:
        with _noted(damages):
            virtual_run.write_events(settings, model)
            files["events"] = settings["events"]
    if settings["report"]:
        files["report"] = settings["report"]
    return files, damages


def _title(settings: Settings) -> str:
    name = settings["optimizer"].upper()
    if settings["strategy"] in defaults.MIRRORED:
        multi = "MultiWorker" if "multi" in settings["strategy"] else ""
        name = f"{multi}MirroredStrategy, SGD"
    elif settings["optimizer"] == "elastic":
        name = f"Elastic({settings['inner_optimizer']})"
    workers = settings["workers"]
    kind = "virtual " if settings["strategy"] == defaults.VIRTUAL else ""
    each = ""
    if inside_checks.is_elastic(settings):
        each = f" of {inside_checks.workers_of_process(settings)} devices each"
    return (
        f"{name} on {settings['dataset']}, {workers} "
        f"{kind}worker{'s' if workers > 1 else ''}{each}"
    )


def _announce(settings: Settings, first_epoch: int) -> None:
    whose = ""
    if settings["strategy"] == defaults.VIRTUAL:
        whose = " of all workers together"
    console.say(
        f"{_title(settings)}: batches of {settings['batch_size']}, "
        f"{settings['steps_per_epoch']} local steps{whose} in an epoch, "
        f"{settings['epochs']} epochs."
    )
    if settings["strategy"] not in defaults.MIRRORED:
        if settings["verbose"] != "0":
            console.say(
                "accuracy and loss are the workers', val_... the center's."
            )
    if first_epoch >= settings["epochs"]:
        console.say(
            f"This run has had all its {first_epoch} epochs: nothing is left "
            "to train. Raise --epochs to go on."
        )
    elif first_epoch:
        console.say(f"Going on after epoch {first_epoch}.")
