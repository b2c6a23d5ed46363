r"""Makes TF_CONFIG from Slurm's variables.

Two job steps make a cluster: one of centers, one of workers, so that the job
can end with its workers. Each task of each step is started as

    python -m tf_elastic.cluster.launch.slurm \
        --role=ps --workers=4 --ps=2 -- COMMAND

with its `--role`, and becomes the center or the command. See
`deploy/slurm/train.sbatch`.
"""

import itertools
import os
import re
import sys
from collections.abc import Mapping

from tf_elastic.cluster.launch import task
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError
from tf_elastic.cluster.transport import addresses

_FIRST_PORT, _PORTS, _PORTS_PER_JOB = 20_000, 12_000, 64


def expand_nodes(text: str) -> list[str]:
    """The nodes that Slurm's short form names.

    Raises:
        ClusterConfigurationError: it cannot be understood.

    Example:

    >>> expand_nodes("gpu[08-10,12],login,r[1-2]n[1-2]")
    ['gpu08', 'gpu09', 'gpu10', 'gpu12', 'login', 'r1n1', 'r1n2', 'r2n1', 'r2n2']
    """  # noqa: E501
    nodes: list[str] = []
    # Commas outside of brackets.
    for name in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", text):
        parts = re.split(r"\[([^\]]*)\]", name)
        choices = [
            _expand_range(part, text) if i % 2 else [part]
            for i, part in enumerate(parts)
        ]
        nodes += map("".join, itertools.product(*choices))
    if not nodes or text.count("[") != text.count("]"):
        raise _not_understood("nodes", text)
    return nodes


def _expand_range(text: str, whole: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not match:
            raise _not_understood("nodes", whole)
        first, last = match[1], match[2] or match[1]
        numbers += [
            str(number).zfill(len(first))
            for number in range(int(first), int(last) + 1)
        ]
    return numbers


def expand_counts(text: str) -> list[int]:
    """How many tasks each node has, from Slurm's short form.

    Raises:
        ClusterConfigurationError: it cannot be understood.

    Example:

    >>> expand_counts("2(x3),1")
    [2, 2, 2, 1]
    """
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not match:
            raise _not_understood("counts", text)
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def configure(
    variables: Mapping[str, str],
    role: str,
    num_workers: int,
    num_centers: int,
    port: int | None = None,
) -> ClusterConfiguration:
    """Who the task of a job step is.

    Centers are on the first nodes of the job, in turn: center i on node i
    modulo their number, as `srun --distribution=cyclic` places them.

    Args:
        variables: the environment of the task.
        role: "worker" or "ps", that of the whole step.
        num_workers: how many tasks the step of the workers has.
        num_centers: how many tasks the step of the centers has.
        port: the first port that is used; None for one that follows from
            the number of the job, so that jobs do not meet.

    Returns:
        The configuration.

    Raises:
        ClusterConfigurationError: a variable is missing or wrong, or Slurm
            has placed the tasks in another way.
    """
    nodes = expand_nodes(_variable(variables, "SLURM_JOB_NODELIST"))
    index = _integer(variables, "SLURM_PROCID")
    if port is None:
        job = _integer(variables, "SLURM_JOB_ID")
        port = _FIRST_PORT + job * _PORTS_PER_JOB % _PORTS
    used = min(num_centers, len(nodes))
    places = {
        "ps": [nodes[i % used] for i in range(num_centers)],
        "worker": [nodes[i % len(nodes)] for i in range(num_workers)],
    }
    if role == "worker":
        # Known for the own step. It matters where workers run TensorFlow's
        # servers; else their addresses are no more than names.
        own = expand_nodes(_variable(variables, "SLURM_STEP_NODELIST"))
        counts = expand_counts(
            _variable(variables, "SLURM_STEP_TASKS_PER_NODE")
        )
        if len(own) != len(counts):
            raise ClusterConfigurationError(
                "SLURM_STEP_NODELIST and SLURM_STEP_TASKS_PER_NODE must name "
                f"equally many nodes. Received: {len(own)} and {len(counts)}. "
                "Set TF_CONFIG by hand instead."
            )
        places["worker"] = [
            node
            for node, count in zip(own, counts, strict=True)
            for _ in range(count)
        ]
    tasks = _integer(variables, "SLURM_STEP_NUM_TASKS")
    wanted = num_workers if role == "worker" else num_centers
    if tasks != wanted:
        raise ClusterConfigurationError(
            f"The step of the {role} tasks must have as many as told. "
            f"Received: {tasks} tasks of srun, and {wanted}. Give srun "
            f"--ntasks={wanted}, or correct --workers and --ps."
        )
    here = _variable(variables, "SLURMD_NODENAME")
    if places[role][index : index + 1] != [here]:
        order = "cyclic" if role == "ps" else "block"
        raise ClusterConfigurationError(
            f"The {role} tasks must be placed on the nodes in {order} order. "
            f"Received: {role} {index} on {here}, where "
            f"{places[role][index : index + 1]} was expected. Give srun "
            f"--distribution={order}"
            + (f" --nodes={used} --relative=0." if role == "ps" else ".")
        )
    counter = itertools.count(port)
    centers = tuple(addresses.join(n, next(counter)) for n in places["ps"])
    workers = tuple(addresses.join(n, next(counter)) for n in places["worker"])
    return ClusterConfiguration(workers, centers, (), role, index)


def _variable(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise ClusterConfigurationError(
            f"Slurm's variable {name} must be set. Received: nothing. Start "
            "this by srun, in a job step, as deploy/slurm/train.sbatch does."
        )
    return variables[name]


def _integer(variables: Mapping[str, str], name: str) -> int:
    text = _variable(variables, name)
    if not (text.isascii() and text.isdecimal()):
        raise ClusterConfigurationError(
            f"Slurm's variable {name} must be an integer. Received: {text!r}. "
            "Start this by srun, as deploy/slurm/train.sbatch does."
        )
    return int(text)


def _not_understood(what: str, text: str) -> ClusterConfigurationError:
    form = {"nodes": "node[01-03,07],other", "counts": "2(x3),1"}[what]
    return ClusterConfigurationError(
        f"Slurm's list of {what} must have a form like {form}. Received: "
        f"{text!r}. Set TF_CONFIG by hand instead."
    )


def main() -> int:
    """Runs the program; see the module's text."""
    parser = task.parser("Slurm")
    parser.add_argument("--role", choices=["worker", "ps"], required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--ps", type=int, required=True)
    parser.add_argument("--port", type=int, help="the first that is used")
    return task.become(
        parser,
        lambda args: configure(
            os.environ, args.role, args.workers, args.ps, args.port
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
