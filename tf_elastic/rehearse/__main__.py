"""Rehearses a cluster: python -m tf_elastic.rehearse --help."""

import sys
from collections.abc import Sequence

from tf_elastic import extras
from tf_elastic import files
from tf_elastic.program import console
from tf_elastic.program import usage
from tf_elastic.rehearse import command_line
from tf_elastic.rehearse import picture
from tf_elastic.rehearse import ranking
from tf_elastic.rehearse import real_cluster
from tf_elastic.rehearse import results
from tf_elastic.rehearse import verdict
from tf_elastic.rehearse.command_line import Asked
from tf_elastic.rehearse.plan import Plan
from tf_elastic.rehearse.processes import Processes
from tf_elastic.rehearse.results import Results
from tf_elastic.rehearse.side_by_side import Rehearsal


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what was given, without the program's name; by default the
            process' own.

    Returns:
        The exit status: 0; 1 if a run has failed, 2 for a wrong argument, 130
        after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        asked = command_line.parse(given)
        with command_line.alone_in(asked.out):
            return _rehearse(asked)
    except (
        usage.UsageError,
        extras.MissingExtraError,
        files.FileNotWrittenError,
    ) as error:
        sys.stderr.write(f"{command_line.PROGRAM}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on from here.\n")
        return 130


def _rehearse(asked: Asked) -> int:
    plan, rows = asked.plan, Results(asked.out)
    console.say(
        f"{len(plan.runs)} runs, {asked.jobs} at a time, in {asked.out}"
    )
    processes = Processes(asked.jobs)
    try:
        verdicts = verdict.verdicts(plan.runs, asked.out, processes)
        rehearsal = Rehearsal(
            plan, asked.out, rows, verdicts, processes, asked.with_events
        )
        rehearsal.train(asked.jobs)
    finally:
        processes.end()
    _tell(plan, rows, asked.out)
    done = [rows.status(run) == results.DONE for run in plan.runs]
    return 0 if all(done) else 1


def _tell(plan: Plan, rows: Results, out: str) -> None:
    """The table, the picture, and the command of the best."""
    every = ranking.ranked(plan, rows)
    if not every:
        console.say("No run is done: there is nothing to rank.")
        return
    console.say(f"\n{ranking.table(every, plan.targets)}\n")
    if not any(count for one in every for count in one.reached):
        console.say("No run has come to a target: it is the last error.")
    console.say(f"rows:     {rows.path}")
    try:
        console.say(f"picture:  {picture.draw(every, plan.targets, out)}")
    except extras.MissingExtraError as error:
        console.say(f"{error}")
    best = every[0].runs[0]
    console.say(
        "\nThe best of them in a real cluster on this machine (on several: the "
        "same without --local_workers, see docs/cluster.md):\n\n  "
        + real_cluster.command(best)
    )
    for name in real_cluster.lacks(best):
        console.say(f"\nA real cluster has no --{name}: it is left out.")


if __name__ == "__main__":
    sys.exit(main())
