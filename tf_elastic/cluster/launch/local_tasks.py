"""The tasks of a cluster on this machine, and what each process is given."""

import dataclasses
import os
import pathlib
import secrets
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic.cluster.launch import task
from tf_elastic.cluster.launch.cluster_process import HOST
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.machine_share import MachineShare
from tf_elastic.cluster.launch.machine_share import share_out
from tf_elastic.cluster.transport import addresses

_PACKAGE_ROOT = pathlib.Path(__file__).resolve().parents[3]


@dataclasses.dataclass
class LocalTasks:
    """Makes the processes of a local cluster; starts none.

    For its arguments see `LocalCluster`.
    """

    command: Sequence[str]
    num_workers: int
    num_centers: int
    log_dir: pathlib.Path
    evaluator: bool
    env: Mapping[str, str]
    center_command: Sequence[str] | None
    snapshot_dir: str | os.PathLike[str] | None
    pin: bool
    workers_per_group: int = 1

    def __post_init__(self) -> None:
        check_count("num_workers", self.num_workers, 1)
        check_count("num_centers", self.num_centers, 0)
        check_count("workers_per_group", self.workers_per_group, 1)
        if self.num_workers % self.workers_per_group:
            raise ValueError(
                "`num_workers` must be a multiple of `workers_per_group`. "
                f"Received: num_workers={self.num_workers}, "
                f"workers_per_group={self.workers_per_group}."
            )
        if isinstance(self.command, str) or not self.command:
            raise ValueError(
                "`command` must be a list of a program and its arguments. "
                f"Received: command={self.command!r}. Write it as in "
                '[sys.executable, "train.py"].'
            )
        # Kept through restarts; the caller may bring its own.
        self.token = self.env.get("TF_ELASTIC_TOKEN") or secrets.token_hex(32)
        self.workers: tuple[str, ...] = ()  # their addresses
        self.centers: tuple[str, ...] = ()
        self.processes: list[ClusterProcess] = []
        self._shares: list[MachineShare] = []

    def make(self) -> None:
        """All processes anew, the centers first, at ports that are free."""
        count = self.num_workers + self.num_centers
        names = [
            addresses.join(HOST, port)
            for port in addresses.free_ports(count, HOST)
        ]
        self.workers = tuple(names[: self.num_workers])
        self.centers = tuple(names[self.num_workers :])
        self._shares = share_out(self.num_workers)
        roles = [("ps", i) for i in range(self.num_centers)]
        roles += [("worker", i) for i in range(self.num_workers)]
        roles += [("evaluator", 0)] * self.evaluator
        self.processes = [self._make_one(role, index) for role, index in roles]
        workers = [p for p in self.processes if p.role == "worker"]
        for worker in workers:
            worker.peers = [
                other
                for other in workers
                if other is not worker
                and other.index // self.workers_per_group
                == worker.index // self.workers_per_group
            ]

    def add_worker(self) -> ClusterProcess:
        """One worker more, behind all others.

        Raises:
            ValueError: it would be alone in its group.
        """
        if self.workers_per_group > 1:
            raise ValueError(
                "One worker is no group. Received: "
                f"workers_per_group={self.workers_per_group}."
            )
        [port] = addresses.free_ports(1, HOST)
        self.workers += (addresses.join(HOST, port),)
        process = self._make_one("worker", len(self.workers) - 1)
        self.processes.append(process)
        return process

    def _make_one(self, role: str, index: int) -> ClusterProcess:
        config = ClusterConfiguration(
            self.workers, self.centers, (), role, index
        )
        share = MachineShare((), ())
        if role == "worker":
            share = self._shares[index % self.num_workers]
        environment = self.environment(share)
        environment["TF_CONFIG"] = config.to_tf_config()
        process = ClusterProcess(
            role,
            index,
            task.command_of(
                config, self.command, self.snapshot_dir, self.center_command
            ),
            self.log_dir / f"{role}-{index}.log",
            environment,
            share.cores if self.pin else (),
        )
        process.log_path.write_bytes(b"")
        return process

    def environment(self, share: MachineShare | None = None) -> dict[str, str]:
        """What a process finds in `os.environ`, but for who it is.

        Args:
            share: what of this machine it may use; None for that of the first
                worker.
        """
        if share is None:
            share = share_out(self.num_workers)[0]
        own = share.environment()
        inherited = dict(os.environ)
        for name in ("CERT", "KEY", "CA"):
            # Certificates of hosts do not hold for the loopback.
            inherited.pop(f"TF_ELASTIC_TLS_{name}", None)
        # Centers of one machine cannot share a port.
        inherited.pop("TF_ELASTIC_ARRAY_PORT", None)
        paths = [inherited.get("PYTHONPATH", ""), str(_PACKAGE_ROOT)]
        proxied = inherited.get("no_proxy", inherited.get("NO_PROXY", ""))
        no_proxy = ",".join(filter(None, [proxied, HOST, "localhost"]))
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            if name in inherited:
                # Chosen by the user, for every process.
                own = {**own, name: inherited[name]}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "no_proxy": no_proxy,
            "NO_PROXY": no_proxy,
            **own,
            **self.env,
            "TF_ELASTIC_TOKEN": self.token,
        }


def check_count(name: str, value: object, least: int) -> None:
    """Refuses what is no integer of at least `least`.

    Raises:
        ValueError: it is not.
    """
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < least:  # type: ignore[operator]
        raise ValueError(
            f"`{name}` must be an integer >= {least}. Received: "
            f"{name}={value!r}. Give how many you want."
        )
