"""The tasks of a cluster on this machine, and what each process is given."""

import os
import pathlib
import secrets
import sys
from collections.abc import Mapping
from collections.abc import Sequence

from tf_elastic.cluster.launch.cluster_process import HOST
from tf_elastic.cluster.launch.cluster_process import ClusterProcess
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.machine_share import MachineShare
from tf_elastic.cluster.launch.machine_share import share_out
from tf_elastic.cluster.transport import addresses

_PACKAGE_ROOT = pathlib.Path(__file__).resolve().parents[3]


class LocalTasks:
    """Makes the processes of a local cluster; starts none.

    For its arguments see `LocalCluster`.
    """

    def __init__(
        self,
        command: Sequence[str],
        num_workers: int,
        num_centers: int,
        log_dir: str | os.PathLike[str],
        evaluator: bool,
        env: Mapping[str, str],
        center_command: Sequence[str] | None,
        snapshot_dir: str | os.PathLike[str] | None,
        pin: bool,
    ) -> None:
        for name, value, least in (
            ("num_workers", num_workers, 1),
            ("num_centers", num_centers, 0),
        ):
            check_count(name, value, least)
        if isinstance(command, str) or not command:
            raise ValueError(
                "`command` must be a list of a program and its arguments. "
                f"Received: command={command!r}. Write it as in "
                "[sys.executable, \"train.py\"]."
            )
        self.num_workers = num_workers
        self.num_centers = num_centers
        self.log_dir = pathlib.Path(log_dir)
        # Kept through restarts; the caller may bring its own.
        self.token = env.get("TF_ELASTIC_TOKEN") or secrets.token_hex(32)
        self.workers: tuple[str, ...] = ()  # their addresses
        self.centers: tuple[str, ...] = ()
        self._command = list(command)
        self._evaluator = evaluator
        self._env = dict(env)
        self._center_command = list(
            center_command or [sys.executable, "-m", "tf_elastic.cluster.ps"]
        )
        self._snapshots = pathlib.Path(snapshot_dir) if snapshot_dir else None
        self._pin = pin
        self._shares: list[MachineShare] = []

    def make(self, ports: Sequence[int]) -> list[ClusterProcess]:
        """All processes, the centers first.

        Args:
            ports: of the workers, and of the centers.
        """
        names = [addresses.join(HOST, port) for port in ports]
        self.workers = tuple(names[: self.num_workers])
        self.centers = tuple(names[self.num_workers :])
        roles = [("ps", i) for i in range(self.num_centers)]
        roles += [("worker", i) for i in range(self.num_workers)]
        roles += [("evaluator", 0)] * self._evaluator
        self._shares = share_out(self.num_workers)
        return [self._make_one(role, index) for role, index in roles]

    def make_worker(self, port: int) -> ClusterProcess:
        """One worker more, behind all others."""
        self.workers += (addresses.join(HOST, port),)
        return self._make_one("worker", len(self.workers) - 1)

    def _make_one(self, role: str, index: int) -> ClusterProcess:
        command = self._command
        cores: tuple[int, ...] = ()
        share = MachineShare((), ())
        if role == "ps":
            command = list(self._center_command)
            if self._snapshots:
                folder = self._snapshots / f"ps-{index}"
                folder.mkdir(parents=True, exist_ok=True)
                command.append(f"--snapshot_dir={folder}")
        if role == "worker":
            share = self._shares[index % self.num_workers]
            cores = share.cores if self._pin else ()
        config = ClusterConfiguration(
            self.workers, self.centers, (), role, index
        )
        process = ClusterProcess(
            role,
            index,
            command,
            self.log_dir / f"{role}-{index}.log",
            self._environment(share.environment(), config),
            cores,
        )
        process.log_path.write_bytes(b"")
        return process

    def _environment(
        self, own: Mapping[str, str], config: ClusterConfiguration
    ) -> dict[str, str]:
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
            **self._env,
            "TF_ELASTIC_TOKEN": self.token,
            "TF_CONFIG": config.to_tf_config(),
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
