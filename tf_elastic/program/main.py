"""The program: flags in, exit status out."""

import os
import warnings
from collections.abc import Sequence

from tf_elastic import files
from tf_elastic.cluster.transport import json_text
from tf_elastic.program import advising
from tf_elastic.program import command_line
from tf_elastic.program import console
from tf_elastic.program import defaults
from tf_elastic.program import launching
from tf_elastic.program import run_folder
from tf_elastic.program import running
from tf_elastic.program import settings as run_settings
from tf_elastic.program import tasks
from tf_elastic.program import usage
from tf_elastic.program import user_rules
from tf_elastic.program.flag import Settings


def main(argv: Sequence[str], introduction: str) -> int:
    """Runs the program.

    Args:
        argv: the program's name, then its flags.
        introduction: the text above the flags in `--help`.

    Returns:
        The exit status: 0; 2 if what was asked for cannot be done, 130 after
        Ctrl-C.
    """
    settings = None
    try:
        if _asks_for(argv, "h", "help", "helpfull"):
            user_rules.import_named(argv)
            console.say(command_line.help_text(introduction))
            return 0
        if _asks_for(argv, "methods"):
            user_rules.import_named(argv)
            from tf_elastic.program import method_table

            console.say(method_table.text())
            return 0
        settings = run_settings.parse(argv)
        with warnings.catch_warnings():
            warnings.showwarning = console.show_warning
            return _do(settings, argv[0])
    except (usage.UsageError, files.FileNotWrittenError) as error:
        console.complain(str(error))
        return 2
    except KeyboardInterrupt:
        # Of a cluster's processes, the one that starts them speaks.
        in_cluster = settings and settings["strategy"] in defaults.CLUSTER
        if not (in_cluster and "TF_CONFIG" in os.environ):
            console.complain(f"\n{_stopped(settings)}")
        return 130


def _asks_for(argv: Sequence[str], *names: str) -> bool:
    """Whether one of these flags is given, whatever else there is."""
    return any(
        arg in (f"-{name}", f"--{name}") for name in names for arg in argv[1:]
    )


def _do(settings: Settings, program: str) -> int:
    """What this process is for; returns the exit status."""
    if settings["advise"]:
        return advising.advise(settings)
    if settings["local_workers"] is not None:
        return launching.launch(settings, program)
    task = tasks.of_this_process(settings)
    if task is not None and task.role == "ps":
        return tasks.serve_center(settings, task)
    if task is not None and task.role == "evaluator":
        return tasks.evaluate(settings)
    running.train(tasks.own_part(settings, task), task)
    return 0


def _stopped(settings: Settings | None) -> str:
    """What to say after Ctrl-C."""
    if settings and settings["strategy"] in defaults.CLUSTER:
        return _stopped_in_cluster(settings)
    if not settings or not settings["model_dir"]:
        return "Stopped. Nothing was saved; --model_dir would keep each epoch."
    folder = settings["model_dir"]
    backup = os.path.join(folder, run_folder.BACKUP)
    metadata = os.path.join(backup, run_folder.METADATA)
    try:
        with open(metadata, encoding="utf-8") as file:
            epoch = int(json_text.parse(file.read())["epoch"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "Stopped before the end of the first epoch: nothing was saved."
    return (
        f"Stopped. Saved: epoch {epoch} of {settings['epochs']}, in "
        f"{backup}. Go on with:\n"
        f"  python train.py --model_dir={folder} --resume{_rules(settings)}"
    )


def _rules(settings: Settings) -> str:
    """What has to be given again."""
    return f" --rules={settings['rules']}" if settings["rules"] else ""


def _stopped_in_cluster(settings: Settings) -> str:
    """What to say after Ctrl-C on this machine's cluster."""
    folder = settings["model_dir"]
    if not folder or not os.path.exists(
        os.path.join(folder, run_folder.CENTERS)
    ):
        return "Stopped. Nothing was saved."
    return (
        f"Stopped. The center servers keep their snapshots in {folder}. Go "
        f"on with:\n  python train.py --model_dir={folder} --resume"
        f"{_rules(settings)}"
    )
