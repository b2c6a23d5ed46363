"""A cluster on this machine: `--local_workers`."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from tf_elastic import user_code
from tf_elastic.program import checks
from tf_elastic.program import console
from tf_elastic.program import event_picture
from tf_elastic.program import flag_table
from tf_elastic.program import run_folder
from tf_elastic.program import tree_run
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings
from tf_elastic.timeline import event_file

_OF_LAUNCHER = (
    "local_workers local_ps local_evaluator restart_workers status resume "
    "events tree scheme periods most_waiting"
).split()

# By every process that trains; what they look at in the environment it has
# from its launcher.
IMPORTED = (
    "tensorflow",
    "keras",
    "tf_elastic.callbacks",
    "tf_elastic.data",
    "tf_elastic.models",
    "tf_elastic.monitor",
    "tf_elastic.optimizers",
    "tf_elastic.strategies",
)


def launch(settings: Settings, program: str) -> int:
    """Starts the cluster, and waits for its end.

    Args:
        settings: what `settings.parse` returned.
        program: the script that every process runs.

    Returns:
        The exit status of the chief.

    Raises:
        UsageError: the cluster cannot be started.
    """
    from tf_elastic.cluster import errors
    from tf_elastic.cluster.launch import isolation
    from tf_elastic.cluster.launch import local

    folder = settings["model_dir"] or tempfile.mkdtemp(prefix="tf_elastic-")
    log_dir = os.path.join(folder, run_folder.LOGS)
    mirrored = settings["strategy"] == "multi_worker_mirrored"
    in_groups = settings["group_size"] > 1
    command = [sys.executable, os.path.abspath(program), *_flags(settings)]
    tree = tree_run.local(settings)
    centers = settings["local_ps"] * tree_run.num_nodes(tree)
    board = console.Board() if settings["status"] else None
    cluster = local.LocalCluster(
        command,
        settings["local_workers"],
        0 if mirrored else centers,
        log_dir,
        evaluator=settings["local_evaluator"],
        env={**_environment(settings), **tree_run.environment(settings, tree)},
        snapshot_dir=(
            os.path.join(folder, run_folder.CENTERS)
            if settings["model_dir"]
            else None
        ),
        restart_workers=settings["restart_workers"],
        workers_per_group=settings["group_size"],
        isolate_network=mirrored or in_groups,
        trusted_network=settings["trusted_network"],
        preload=IMPORTED,
        output=board,
    )
    if settings["model_dir"]:
        run_folder.make(settings)
        run_folder.write_settings(settings)
    console.say(
        f"A cluster of {_count(settings['local_workers'], 'worker')}"
        + ("" if mirrored else f" and {_count(centers, 'center server')}")
        + f" on this machine; logs in {log_dir}"
    )
    try:
        with _closed_at_the_end(board), cluster:
            if board is not None:
                from tf_elastic.program import status_table

                with status_table.shown(cluster, board):
                    status = cluster.wait()
            else:
                status = cluster.wait()
    except (errors.LocalClusterError, isolation.IsolationError) as error:
        raise usage.UsageError(str(error)) from error
    event_picture.draw(settings)
    if cluster.failure:
        console.complain(cluster.failure)
    return status


def _environment(settings: Settings) -> dict[str, str]:
    """What every process is told, center servers too."""
    env = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    if settings["events"]:
        env[event_file.VARIABLE] = os.path.abspath(settings["events"])
    if settings["rules"]:
        env[user_code.VARIABLE] = settings["rules"]
    return env


@contextlib.contextmanager
def _closed_at_the_end(board: console.Board | None) -> Iterator[None]:
    try:
        yield
    finally:
        if board is not None:
            board.close()


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _flags(settings: Settings) -> list[str]:
    """The command line of every process of the cluster."""
    left_out = {*_OF_LAUNCHER, *checks.without_effect(settings)}
    result = []
    for flag in flag_table.all_flags():
        value = settings[flag.name]
        if flag.name == "verbose" and value == "1" and settings["status"]:
            value = "2"  # A bar would be drawn where the table is.
        if flag.name in left_out or value is None:
            continue
        if flag.kind == "switch":
            if value != flag.default:
                result.append(f"--{'' if value else 'no'}{flag.name}")
        else:
            result.append(f"--{flag.name}={value}")
    return result
