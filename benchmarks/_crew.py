"""Processes of a benchmark: started, told what to do in turns, ended.

A benchmark is its own driver: it starts its file again, with other flags, as
workers. A worker reads one command a line (JSON) and answers with a line, so
all are in the same variant at the same time, and idle in between.

Run as a program, this file runs another in a network of its own, since
TensorFlow's servers listen on all interfaces and obey whoever calls.
"""

import contextlib
import itertools
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tf_elastic.cluster.launch import child
from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.transport import addresses

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEADLINE_S = 300.0
_ports = itertools.count(20000)
_PRIVATE = "TF_ELASTIC_BENCH_PRIVATE"


class CrewError(RuntimeError):
    """A process of the benchmark has failed."""


def enter_private_network():
    """Begins this program anew, in a network that nobody else is in."""
    if _PRIVATE not in os.environ:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, __file__, *sys.argv])


class Process:
    """One process; its answers come by a thread, so they have deadlines."""

    def __init__(self, name, popen, log_path):
        self.name = name
        self.popen = popen
        self.log_path = log_path
        self._answers = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def close(self):
        """Closes the pipes to a process that has ended."""
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        self._reader.join(10)
        if not self._reader.is_alive():
            self.popen.stdout.close()

    def tell(self, name, **arguments):
        """Sends a command; `answer` waits for what comes of it."""
        try:
            self.popen.stdin.write(json.dumps([name, arguments]) + "\n")
            self.popen.stdin.flush()
        except OSError as error:
            raise self._failed("takes no commands any more") from error

    def answer(self, deadline_s=DEADLINE_S):
        """What the command has returned.

        Raises:
            CrewError: the process has ended, or did not answer in time.
        """
        try:
            line = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            raise self._failed(
                f"has not answered in {deadline_s:g} s"
            ) from None
        if line is None:
            raise self._failed("has ended")
        return json.loads(line)

    def cpu_s(self):
        """Processor time that it has taken so far."""
        stat = pathlib.Path(f"/proc/{self.popen.pid}/stat").read_text("ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _failed(self, how):
        lines = self.log_path.read_text("utf-8", "replace").splitlines()
        return CrewError(
            f"{self.name} {how}. The end of its log:\n"
            + "\n".join(f"  {line}" for line in lines[-30:])
        )


class Crew:
    """All processes of a benchmark; none outlives the block."""

    def __init__(self):
        self.processes = []
        self._end = contextlib.ExitStack()

    def __enter__(self):
        folder = self._end.enter_context(
            tempfile.TemporaryDirectory(prefix="tf_elastic_bench_")
        )
        self.folder = pathlib.Path(folder)
        self._end.callback(self._stop)
        # So that it ends like an exception.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *error):
        self._end.close()

    def start(self, name, command, env=None, cores=(), namespace=None):
        """Starts a process.

        Args:
            name: for messages.
            command: a program and its arguments.
            env: environment variables on top of this process'.
            cores: which it may use; () for all.
            namespace: the network namespace that it lives in, if any.
        """
        where = ["ip", "netns", "exec", namespace] if namespace else []
        log_path = self.folder / f"{len(self.processes)}.log"
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        with open(log_path, "wb") as log:
            popen = subprocess.Popen(
                [
                    *isolation.python_of_children(),
                    f"--parent={os.getpid()}",
                    f"--cores={','.join(map(str, cores))}",
                    "--",
                    *where,
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    "TF_CPP_MIN_LOG_LEVEL": "2",
                    "CUDA_VISIBLE_DEVICES": "-1",
                    "no_proxy": "*",
                    **(env or {}),
                },
            )
        process = Process(name, popen, log_path)
        self.processes.append(process)
        return process

    def start_centers(
        self, count, num_workers, host="127.0.0.1", env=None, **options
    ):
        """Starts center servers; returns their cluster and processes.

        Args:
            count: how many.
            num_workers: of the cluster, whose addresses nobody uses.
            host: where the servers listen.
            env: environment variables on top of this process'.
            **options: see `start`.
        """
        ports = free_ports(count + num_workers, **options)
        cluster = {
            "ps": [f"{host}:{port}" for port in ports[:count]],
            "worker": [f"{host}:{port}" for port in ports[count:]],
        }
        return cluster, [
            self.start(
                f"center {index}",
                [sys.executable, "-m", "tf_elastic.cluster.ps"],
                {
                    "TF_CONFIG": tf_config(cluster, "ps", index),
                    **(env or {}),
                },
                **options,
            )
            for index in range(count)
        ]

    def _stop(self):
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.terminate()
        deadline = time.monotonic() + 3
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(deadline - time.monotonic(), 0.01))
        for process in self.processes:
            process.popen.kill()
        for process in self.processes:
            process.popen.wait(10)
            process.close()


def free_ports(count, namespace=None, **_):
    """Ports that nobody uses; in a namespace of its own, the next ones."""
    if namespace:
        return [next(_ports) for _ in range(count)]
    return addresses.free_ports(count)


def tf_config(cluster, job, index):
    """The environment variable of one task."""
    return json.dumps(
        {"cluster": cluster, "task": {"type": job, "index": index}}
    )


def tell_all(processes, name, deadline_s=DEADLINE_S, **arguments):
    """Has all do the same at once; a list of what each has answered."""
    for process in processes:
        process.tell(name, **arguments)
    deadline = time.monotonic() + deadline_s
    return [p.answer(max(deadline - time.monotonic(), 0.1)) for p in processes]


def obey(commands):
    """The life of a worker: does what comes, until nobody is there.

    Args:
        commands: name -> function of keywords that returns JSON.
    """
    # What is printed goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(commands[name](**arguments)), file=answers, flush=True)
    # Without the others TensorFlow would wait for them at the exit.
    os._exit(0)


if __name__ == "__main__":
    try:
        child.make_network()
    except OSError as error:
        print(
            "TensorFlow's servers, which obey whoever calls, will be open to "
            f"the network: this machine gives none of its own ({error})."
        )
    os.environ[_PRIVATE] = "1"
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
