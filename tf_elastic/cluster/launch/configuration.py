"""Who the processes of a cluster are, and which of them this one is."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from tf_elastic.cluster.transport import addresses

_JOBS = ("chief", "worker", "ps", "evaluator")
_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"], '
    '"ps": ["10.0.0.1:2223"]}, "task": {"type": "worker", "index": 0}}'
)


class ClusterConfigurationError(ValueError):
    """The description of the cluster is wrong; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class ClusterConfiguration:
    """The tasks of a cluster, and the task of this process.

    Of a job `chief`, its one task is worker 0 here, and those of the job
    `worker` follow it. Without that job, task 0 of `worker` is the chief.

    Args:
        workers: "host:port" of each worker, the chief first. In an elastic
            cluster workers listen on nothing: their addresses are names.
        centers: "host:port" of each center server (job `ps`).
        evaluators: "host:port" of each evaluator; often none is given.
        role: "worker", "ps" or "evaluator".
        index: which task of its job this process is, from 0; among workers,
            the place in `workers`.

    Raises:
        ClusterConfigurationError: an address is malformed or there twice, or
            the role or index is of no task.

    Example:

    >>> c = ClusterConfiguration(("a:1", "b:1"), ("a:2",), (), "worker", 1)
    >>> c.task, c.is_chief, c.num_workers
    ('worker 1', False, 2)
    """

    workers: tuple[str, ...]
    centers: tuple[str, ...]
    evaluators: tuple[str, ...]
    role: str
    index: int

    def __post_init__(self) -> None:
        _check_tasks(self.jobs)
        _check_own_task(self.jobs, self.role, self.index)

    @property
    def jobs(self) -> dict[str, tuple[str, ...]]:
        """The addresses of each job that has any."""
        jobs = {
            "worker": self.workers,
            "ps": self.centers,
            "evaluator": self.evaluators,
        }
        return {job: tuple(tasks) for job, tasks in jobs.items() if tasks}

    @property
    def num_workers(self) -> int:
        """How many workers there are, the chief included."""
        return len(self.workers)

    @property
    def worker_index(self) -> int | None:
        """Which worker this process is; None if it is none."""
        return self.index if self.role == "worker" else None

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes what is kept."""
        return self.worker_index == 0

    @property
    def task(self) -> str:
        """This process by name, such as "worker 1"."""
        return f"{self.role} {self.index}"

    @classmethod
    def from_tf_config(
        cls, text: str | None = None, needs_centers: bool = True
    ) -> "ClusterConfiguration":
        """Reads TF_CONFIG.

        Args:
            text: JSON with `cluster` and `task`; None for that of the
                environment variable TF_CONFIG.
            needs_centers: whether a cluster without a job `ps` is refused.

        Returns:
            The configuration.

        Raises:
            ClusterConfigurationError: something in it is wrong.
        """
        if text is None:
            text = os.environ.get("TF_CONFIG")
        if not text or not text.strip():
            received = "nothing" if text is None else repr(text)
            raise ClusterConfigurationError(
                "The environment variable TF_CONFIG must describe the "
                f"cluster. Received: {received}. "
                f"Set it as in TF_CONFIG='{_EXAMPLE}'."
            )
        config = _parse_json(text)
        cluster, task = (
            _section(config, "cluster", "the addresses of each job"),
            _section(config, "task", "which task this process is"),
        )
        for key in ("type", "index"):
            if key not in task:
                raise ClusterConfigurationError(
                    "`task` of TF_CONFIG must have `type` and `index`. "
                    f"Received: task={task!r}, without `{key}`. Write it as "
                    'in "task": {"type": "worker", "index": 0}.'
                )
        return cls._from_jobs(
            cluster, task["type"], task["index"], needs_centers
        )

    @classmethod
    def from_resolver(
        cls, resolver: Any, needs_centers: bool = True
    ) -> "ClusterConfiguration":
        """Takes what a resolver of TensorFlow knows.

        Args:
            resolver: a `tf.distribute.cluster_resolver.ClusterResolver`, such
                as `SlurmClusterResolver`, given the jobs `worker` and `ps`.
            needs_centers: whether a cluster without a job `ps` is refused.

        Returns:
            The configuration.

        Raises:
            ClusterConfigurationError: it knows no cluster or no task, or
                something in them is wrong.
        """
        cluster = resolver.cluster_spec().as_dict()
        role, index = resolver.task_type, resolver.task_id
        if not cluster or role is None or index is None:
            raise ClusterConfigurationError(
                "`cluster_resolver` must know the cluster and the task of "
                f"this process. Received: {type(resolver).__name__} with "
                f"cluster={cluster!r}, task_type={role!r}, task_id={index!r}. "
                "Give it task_type and task_id, or set TF_CONFIG."
            )
        return cls._from_jobs(cluster, role, index, needs_centers)

    @classmethod
    def _from_jobs(
        cls,
        cluster: Mapping[str, Any],
        role: Any,
        index: Any,
        needs_centers: bool,
    ) -> "ClusterConfiguration":
        jobs = _check_jobs(cluster, needs_centers)
        # Before the chief becomes a worker, so that messages name what was
        # given.
        _check_tasks(jobs)
        _check_own_task(jobs, role, index)
        chief = jobs.get("chief", ())
        if role == "chief":
            role = "worker"
        elif role == "worker":
            index += len(chief)
        return cls(
            workers=chief + jobs.get("worker", ()),
            centers=jobs.get("ps", ()),
            evaluators=jobs.get("evaluator", ()),
            role=role,
            index=index,
        )

    def to_tf_config(self) -> str:
        """The same as the JSON of TF_CONFIG, worker 0 being the chief."""
        return json.dumps(
            {
                "cluster": {job: list(a) for job, a in self.jobs.items()},
                "task": {"type": self.role, "index": self.index},
            }
        )


def members_of_group(
    configuration: ClusterConfiguration, size: int
) -> tuple[str, ...]:
    """The addresses of the workers that are one with this one, its own too.

    Args:
        configuration: of a worker.
        size: of each group.
    """
    begin = configuration.index // size * size
    return configuration.workers[begin : begin + size]


def of_groups(
    configuration: ClusterConfiguration, size: int
) -> ClusterConfiguration:
    """The cluster as its centers see it, a group of workers being one.

    A group goes by its leader's address, the first member's.

    Args:
        configuration: with all processes.
        size: of each group; 1 gives the same back.

    Raises:
        ClusterConfigurationError: workers are left over.

    Example:

    >>> c = ClusterConfiguration(("a:1", "b:1"), ("c:2",), (), "worker", 1)
    >>> of_groups(c, 2).workers, of_groups(c, 2).task
    (('a:1',), 'worker 0')
    """
    if configuration.num_workers % size:
        raise ClusterConfigurationError(
            "Groups of workers must be of one size. Received: "
            f"workers_per_group={size}, while the cluster has "
            f"{configuration.num_workers} workers. Add or leave out workers."
        )
    is_worker = configuration.role == "worker"
    return dataclasses.replace(
        configuration,
        workers=configuration.workers[::size],
        index=configuration.index // (size if is_worker else 1),
    )


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        begin, end = max(error.pos - 20, 0), error.pos + 20
        raise ClusterConfigurationError(
            f"TF_CONFIG must be JSON. Received: {error.msg} at line "
            f"{error.lineno}, column {error.colno} (character {error.pos}), "
            f"near {text[begin:end]!r}. Put names in double quotes and leave "
            f"no comma at an end, as in {_EXAMPLE}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ClusterConfigurationError(
            f"TF_CONFIG must be JSON. Received: one that cannot be read: "
            f"{error}. Write it as in {_EXAMPLE}."
        ) from error


def _section(config: Any, key: str, meaning: str) -> dict[str, Any]:
    if not isinstance(config, dict) or not config.get(key):
        there = sorted(config) if isinstance(config, dict) else config
        raise ClusterConfigurationError(
            f"TF_CONFIG must have `{key}`: {meaning}. Received: {there!r}. "
            f"Write it as in {_EXAMPLE}."
        )
    value = config[key]
    if not isinstance(value, dict):
        raise ClusterConfigurationError(
            f"`{key}` of TF_CONFIG must be an object: {meaning}. Received: "
            f"{value!r}. Write it as in {_EXAMPLE}."
        )
    return value


def _check_jobs(
    cluster: Mapping[str, Any], needs_centers: bool
) -> dict[str, tuple[str, ...]]:
    """The jobs with their addresses as tuples, the empty ones left out."""
    jobs = {}
    for job, tasks in cluster.items():
        if job not in _JOBS:
            raise ClusterConfigurationError(
                f"A job of the cluster must be one of {', '.join(_JOBS)}. "
                f"Received: {job!r}. Rename it, or leave it out."
            )
        if not isinstance(tasks, (list, tuple)):
            raise ClusterConfigurationError(
                f"The job {job!r} must be a list of addresses. Received: "
                f'{tasks!r}. Write it as in "{job}": ["10.0.0.1:2222"].'
            )
        if tasks:
            jobs[job] = tuple(tasks)
    if len(jobs.get("chief", ())) > 1:
        raise ClusterConfigurationError(
            "The job 'chief' must have one task. Received: "
            f"{list(jobs['chief'])}. Make the others tasks of 'worker'."
        )
    if "worker" not in jobs and "chief" not in jobs:
        raise ClusterConfigurationError(
            "The cluster must have a job 'worker' with at least one address. "
            f"Received: the jobs {sorted(jobs)}. Add "
            '"worker": ["10.0.0.1:2222"].'
        )
    if needs_centers and "ps" not in jobs:
        raise ClusterConfigurationError(
            "An elastic cluster must have a job 'ps' with at least one "
            "address: there the center is kept. Received: the jobs "
            f'{sorted(jobs)}. Add "ps": ["10.0.0.1:2223"], and start '
            "`python -m tf_elastic.cluster.ps` there."
        )
    return jobs


def _check_tasks(jobs: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses malformed addresses, and one address for two tasks."""
    owner: dict[str, str] = {}
    for job, tasks in jobs.items():
        for index, address in enumerate(tasks):
            name = f"{job} {index}"
            try:
                host, port = addresses.split(address)
            except addresses.AddressError as error:
                raise ClusterConfigurationError(
                    f"The address of {name} is wrong. {error}"
                ) from error
            key = addresses.join(host.lower(), port)
            if key in owner:
                raise ClusterConfigurationError(
                    "Every task must have an address of its own. Received: "
                    f"{address} for both {owner[key]} and {name}. Give one of "
                    "them another port."
                )
            owner[key] = name


def _check_own_task(
    jobs: Mapping[str, tuple[str, ...]], role: Any, index: Any
) -> None:
    """Refuses a role or an index that is of no task."""
    if role not in _JOBS:
        raise ClusterConfigurationError(
            f"The type of a task must be one of {', '.join(_JOBS)}. "
            f"Received: {role!r}. Correct `type` in `task`."
        )
    if isinstance(index, bool) or not isinstance(index, int):
        raise ClusterConfigurationError(
            "The index of a task must be an integer, without quotes. "
            f"Received: {index!r} for the {role}. Write it as in "
            '"index": 0.'
        )
    tasks = len(jobs.get(role, ()))
    if role == "evaluator":
        # Often not in the cluster, since nobody connects to it.
        tasks = max(tasks, 1)
    if not tasks:
        raise ClusterConfigurationError(
            f"This process must be a task of the cluster. Received: {role} "
            f"{index}, while the jobs are {sorted(jobs)}. Add its address "
            f"under {role!r}, or correct `type` in `task`."
        )
    if not 0 <= index < tasks:
        raise ClusterConfigurationError(
            f"The index of a {role} must be from 0 to {tasks - 1}, since the "
            f"cluster has {tasks} of them. Received: {index}. Correct it, or "
            f"add the address of {role} {index} on every task."
        )
