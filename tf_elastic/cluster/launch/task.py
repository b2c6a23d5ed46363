"""From the variables of a scheduler to a task with its TF_CONFIG."""

import argparse
import os
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic.cluster.launch.configuration import ClusterConfiguration


def command_of(
    configuration: ClusterConfiguration,
    command: Sequence[str],
    snapshot_dir: str | None = None,
) -> list[str]:
    """What the process of a task runs.

    Args:
        configuration: which task it is.
        command: what a worker or an evaluator runs.
        snapshot_dir: a folder in which each center has one for its
            snapshots; None for no snapshots.

    Returns:
        The program and its arguments: for a center, those of
        `tf_elastic.cluster.ps`.
    """
    if configuration.role != "ps":
        return list(command)
    center = [sys.executable, "-m", "tf_elastic.cluster.ps"]
    if snapshot_dir:
        folder = os.path.join(snapshot_dir, f"ps-{configuration.index}")
        center.append(f"--snapshot_dir={folder}")
    return center


def main(
    argv: Sequence[str],
    configure: Callable[
        [Mapping[str, str], argparse.Namespace], ClusterConfiguration
    ],
    add_arguments: Callable[[argparse.ArgumentParser], None],
    program: str,
    description: str,
) -> int:
    """Becomes the program of a task, or writes its TF_CONFIG.

    Args:
        argv: the arguments, then, after `--`, the command of a worker.
        configure: makes the configuration from the environment and the
            arguments.
        add_arguments: declares the arguments of the scheduler.
        program: how this is called, for messages.
        description: what it does, for `--help`.

    Returns:
        2 if the configuration is wrong, 0 if TF_CONFIG was written; does not
        return if there is a command.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "--snapshot_dir",
        help="a folder in which each center has one for its snapshots",
    )
    parser.add_argument(
        "command",
        nargs="*",
        help="after `--`: what a worker runs; without it TF_CONFIG is written",
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        configuration = configure(os.environ, args)
    except ValueError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    text = configuration.to_tf_config()
    if not args.command:
        sys.stdout.write(f"{text}\n")
        return 0
    command = command_of(configuration, args.command, args.snapshot_dir)
    os.environ["TF_CONFIG"] = text
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{program}: {command[0]} cannot be run: {error}\n")
    return 127
