"""A real Slurm of two nodes on this machine, in namespaces of its own.

`python -m tests.slurm_support FOLDER` is run inside of the namespaces: it
starts munged, slurmctld and one slurmd for each node, and ends with its
standard input. Whatever it and Slurm have started is ended by the kernel with
the first process of the namespace. Needs root and Debian's packages
`slurm-wlm` and `munge`.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

from tests import source_tree as tree

NODES = {"n1": "10.77.0.1", "n2": "10.77.0.2"}
DEADLINE_S = 60
_PROGRAMS = "unshare nsenter ip mount munged slurmctld slurmd sbatch"
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
TreeWidth=65533
KillWait=10
SlurmdParameters=config_overrides
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPort=6817
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """Why no Slurm is run here; None if it is."""
    if os.environ.get("TF_ELASTIC_TEST_SLURM") != "1":
        return "run by `make test-slurm`"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root, on Linux"
    missing = [name for name in _PROGRAMS.split() if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)} (Debian: slurm-wlm and munge)"
    return None


class Slurm:
    """Two nodes, until `close`.

    Args:
        folder: where it keeps its files; not where jobs run.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._process = subprocess.Popen(
            [
                *"unshare --mount --net --pid --fork --kill-child".split(),
                "--mount-proc",
                *(sys.executable, "-m", "tests.slurm_support", str(folder)),
            ],
            cwd=tree.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        answer = self._process.stdout.readline() if ready else "no answer\n"
        if answer != "ready\n":
            self.close()
            raise RuntimeError(f"Slurm does not start: {answer}{self.logs()}")
        [self._inside] = _children_of(self._process.pid)

    def logs(self):
        """What its programs have written."""
        paths = sorted(self._folder.glob("*.log"))
        return "\n".join(f"{p.name}:\n{p.read_text()}" for p in paths)

    def run(self, *command, cwd=None, **variables):
        """Runs a command where Slurm is; its output."""
        enter = ["nsenter", "--all", f"--target={self._inside}"]
        result = subprocess.run(
            [*enter, f"--wd={cwd or self._folder}", *map(str, command)],
            env={
                **os.environ,
                **variables,
                "SLURM_CONF": str(self._folder / "slurm.conf"),
            },
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        if result.returncode:
            raise RuntimeError(
                f"{' '.join(map(str, command))} has failed: "
                f"{result.stdout}{result.stderr}{self.logs()}"
            )
        return result.stdout

    def submit(self, script, *args, options=(), cwd, **variables):
        """Hands a batch script in; the number of its job."""
        return int(
            self.run(
                "sbatch",
                "--parsable",
                *options,
                script,
                *args,
                cwd=cwd,
                **variables,
            )
        )

    def job(self, number):
        """What Slurm tells of a job, such as {"JobState": "RUNNING"}."""
        text = self.run("scontrol", "--oneliner", "show", "job", number)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def task(self, role, index):
        """The process that is a task now, as numbered here; None if none."""
        wanted = {"type": role, "index": index}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                space = os.readlink(folder / "ns" / "pid")
            except OSError:
                continue  # It has ended meanwhile.
            if space != os.readlink(f"/proc/{self._inside}/ns/pid"):
                continue
            for variable in variables:
                name, _, value = variable.partition(b"=")
                if name == b"TF_CONFIG" and json.loads(value)["task"] == wanted:
                    return int(folder.name)
        return None

    def close(self):
        """Ends all of it."""
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


def _children_of(pid):
    path = f"/proc/{pid}/task/{pid}/children"
    return [int(word) for word in pathlib.Path(path).read_text().split()]


def _call(*command, **kwargs):
    subprocess.run(command, check=True, timeout=DEADLINE_S, **kwargs)


def _network(folder):
    """Gives the nodes addresses and names, in these namespaces alone."""
    # With a loopback only, Slurm's look-ups find no kind of address.
    _call(*"ip link add v0 type veth peer name v1".split())
    for link in ("lo", "v0", "v1"):
        _call("ip", "link", "set", link, "up")
    for address in NODES.values():
        _call("ip", "address", "add", f"{address}/24", "dev", "v0")
    lines = [f"{address} {name}\n" for name, address in NODES.items()]
    path = folder / "hosts"
    path.write_text(pathlib.Path("/etc/hosts").read_text() + "".join(lines))
    _call("mount", "--bind", str(path), "/etc/hosts")


def _munge(folder):
    place = folder / "munge"
    place.mkdir(mode=0o755)
    key = place / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    _call(
        "munged",
        "--force",
        f"--socket={place / 'socket'}",
        f"--key-file={key}",
        f"--pid-file={place / 'pid'}",
        f"--seed-file={place / 'seed'}",
        f"--log-file={folder / 'munged.log'}",
    )


def _slurm(folder):
    host = os.uname().nodename.split(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr={address} "
        f"Port={port} CPUs=8 State=UNKNOWN"
        for port, (name, address) in enumerate(NODES.items(), 17001)
    )
    path = folder / "slurm.conf"
    path.write_text(
        _CONFIGURATION.format(
            host=host,
            address=NODES["n1"],
            folder=folder,
            nodes=nodes,
        )
    )
    (folder / "state").mkdir()
    os.environ["SLURM_CONF"] = str(path)
    _call("slurmctld", "-f", str(path))
    for name in NODES:
        (folder / f"spool-{name}").mkdir()
        _call("slurmd", "-f", str(path), "-N", name)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            states = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%t"],
                check=True,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
            ).stdout.split()
            if states == ["idle"] * len(NODES):
                return
        time.sleep(0.1)
    raise TimeoutError(f"The nodes are not idle after {DEADLINE_S} s.")


def main(folder):
    """Starts Slurm, says so, and waits for the end of the input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _network(folder)
    _munge(folder)
    _slurm(folder)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
