"""From the variables of a scheduler to a task with its TF_CONFIG."""

import argparse
import os
import sys
from collections.abc import Callable
from collections.abc import Sequence

from tf_elastic.cluster.launch.configuration import ClusterConfiguration


def command_of(
    configuration: ClusterConfiguration,
    command: Sequence[str],
    snapshot_dir: str | os.PathLike[str] | None = None,
    center_command: Sequence[str] | None = None,
) -> list[str]:
    """What the process of a task runs.

    Args:
        configuration: which task it is.
        command: what a worker or an evaluator runs.
        snapshot_dir: a folder in which each center has one for its
            snapshots; None for no snapshots.
        center_command: what a center runs; None for
            `python -m tf_elastic.cluster.ps`.

    Returns:
        The program and its arguments.
    """
    if configuration.role != "ps":
        return list(command)
    center = center_command or [sys.executable, "-m", "tf_elastic.cluster.ps"]
    if not snapshot_dir:
        return list(center)
    folder = os.path.join(snapshot_dir, f"ps-{configuration.index}")
    return [*center, f"--snapshot_dir={folder}"]


def parser(scheduler: str) -> argparse.ArgumentParser:
    """The arguments that the programs of all schedulers have.

    Args:
        scheduler: such as "Slurm", whose module is "slurm".
    """
    result = argparse.ArgumentParser(
        prog=f"python -m tf_elastic.cluster.launch.{scheduler.lower()}",
        description=f"Becomes one task of a cluster under {scheduler}.",
    )
    result.add_argument(
        "--snapshot_dir",
        help="a folder in which each center has one for its snapshots",
    )
    result.add_argument(
        "command",
        nargs="*",
        help="after `--`: what a worker runs; without it TF_CONFIG is written",
    )
    return result


def become(
    arguments: argparse.ArgumentParser,
    configure: Callable[[argparse.Namespace], ClusterConfiguration],
) -> int:
    """Becomes the program of a task, or writes its TF_CONFIG.

    Args:
        arguments: of `parser`, and those of the scheduler.
        configure: makes the configuration from the arguments.

    Returns:
        2 if the configuration is wrong, 0 if TF_CONFIG was written; does not
        return if there is a command.
    """
    args = arguments.parse_args()
    try:
        configuration = configure(args)
    except ValueError as error:
        sys.stderr.write(f"{arguments.prog}: {error}\n")
        return 2
    if not args.command:
        sys.stdout.write(f"{configuration.to_tf_config()}\n")
        return 0
    command = command_of(configuration, args.command, args.snapshot_dir)
    os.environ["TF_CONFIG"] = configuration.to_tf_config()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        told = f"{command[0]} cannot be run: {error}"
        sys.stderr.write(f"{arguments.prog}: {told}\n")
    return 127
