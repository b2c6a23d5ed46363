"""Local clusters: real processes, which are killed in every way."""

import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import source_tree as tree
from tf_elastic.cluster.launch import child
from tf_elastic.cluster.launch import isolation
from tf_elastic.cluster.launch import local
from tf_elastic.cluster.launch import local_tasks
from tf_elastic.cluster.launch import machine_share
from tf_elastic.cluster.launch import process_keeper
from tf_elastic.cluster.launch.configuration import ClusterConfiguration

DEADLINE_S = 120

# What the small programs below share. TASK is such as "worker-0".
HEAD = """
import json, os, pathlib, signal, socket, subprocess, sys, time
CONFIG = json.loads(os.environ["TF_CONFIG"])
ROLE, INDEX = CONFIG["task"]["type"], CONFIG["task"]["index"]
TASK = f"{ROLE}-{INDEX}"
HERE = pathlib.Path(os.environ["HERE"])
def mark(name, text=""):
    part = HERE / f"{name}.part-{os.getpid()}"
    part.write_text(text)
    part.rename(HERE / name)
def stay():
    mark(f"{TASK}.{os.getpid()}.up")
    while True:
        signal.pause()
"""
CENTER = (
    HEAD
    + """
host, port = CONFIG["cluster"]["ps"][INDEX].rsplit(":", 1)
server = socket.create_server((host, int(port)))
stay()
"""
)
WAIT_FOR_FILE = """
deadline = time.monotonic() + 120
while not (HERE / "go").exists():
    if time.monotonic() > deadline: sys.exit("nobody said go")
    time.sleep(0.01)
"""


def until(condition, what, deadline_s=DEADLINE_S):
    """Waits for a condition, at most `deadline_s`; returns what it gave."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"No {what} in {deadline_s} s."
        time.sleep(0.01)
    return value


def is_running(pid):
    """Whether a process is there and is no zombie."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def cluster(tmp_path):
    """`cluster(code, workers, centers, ...)`: one that is surely ended."""
    with contextlib.ExitStack() as made:

        def make(code, num_workers=2, num_centers=1, center=CENTER, **kwargs):
            kwargs.setdefault("output", io.StringIO())
            kwargs["env"] = {"HERE": str(tmp_path), **kwargs.get("env", {})}
            one = local.LocalCluster(
                [sys.executable, "-c", HEAD + code],
                num_workers,
                num_centers,
                tmp_path / "logs",
                center_command=[sys.executable, "-c", center],
                grace_s=kwargs.pop("grace_s", 5),
                **kwargs,
            )
            made.callback(one.stop)
            return one

        yield make


def pids(one):
    return [process.pid for process in one.processes()]


# A run that goes well.


def test_every_process_knows_who_it_is(cluster, tmp_path):
    code = (
        "names = ['TF_ELASTIC_TOKEN', 'CUDA_VISIBLE_DEVICES', 'MINE',\n"
        "    'TF_NUM_INTRAOP_THREADS', 'OMP_NUM_THREADS']\n"
        "mark(TASK, json.dumps([os.environ['TF_CONFIG'],\n"
        "    {n: os.environ[n] for n in names}, os.getpid(), os.getsid(0)]))\n"
        "if ROLE == 'evaluator': stay()\n"
        + WAIT_FOR_FILE.replace("go", "evaluator-0")
        + "print('I am', TASK, flush=True)\n"
    )
    output = io.StringIO()
    one = cluster(code, 3, 2, evaluator=True, env={"MINE": "x"}, output=output)
    assert one.run(DEADLINE_S) == 0
    configs = []
    for role, index in [("worker", i) for i in range(3)] + [("evaluator", 0)]:
        text, env, pid, session = json.loads(
            (tmp_path / f"{role}-{index}").read_text()
        )
        config = ClusterConfiguration.from_tf_config(text)
        assert (config.role, config.index) == (role, index)
        assert pid == session == one.process(role, index).pid
        assert env["MINE"] == "x"
        assert env["TF_ELASTIC_TOKEN"] == one.token
        assert len(one.token) == 64
        configs.append((config.workers, config.centers))
        if role == "evaluator":
            assert env["CUDA_VISIBLE_DEVICES"] == "-1"
    [(workers, centers)] = set(configs)
    assert (len(workers), len(centers)) == (3, 2)
    assert all(a.startswith("127.0.0.1:") for a in workers + centers)

    assert output.getvalue() == "I am worker-0\n"
    for index in range(3):
        log = tmp_path / "logs" / f"worker-{index}.log"
        assert log.read_text() == f"I am worker-{index}\n"
    assert not any(map(is_running, pids(one)))
    report = json.loads(json.dumps(one.report()))
    assert report["failure"] is None
    tasks = {p["task"]: p for p in report["processes"]}
    assert tasks["worker 2"]["exit_codes"] == [0]
    assert tasks["ps 1"]["exit_codes"] == [-signal.SIGTERM]
    ready = max(tasks[f"ps {i}"]["listening_s"] for i in range(2))
    assert ready <= tasks["worker 0"]["started_s"][0]


def test_the_terminal_is_the_default(cluster, capsys):
    assert cluster("print('hello')", 1, output=None).run(DEADLINE_S) == 0
    assert capsys.readouterr().out == "hello\n"


def test_a_terminal_that_is_closed(cluster, tmp_path):
    output = io.StringIO()
    output.close()
    assert cluster("print('hello')", 1, output=output).run(DEADLINE_S) == 0
    assert (tmp_path / "logs" / "worker-0.log").read_text() == "hello\n"


def test_without_centers(cluster, tmp_path):
    code = "mark(TASK, os.environ['TF_CONFIG'])"
    assert cluster(code, 2, 0).run(DEADLINE_S) == 0
    config = ClusterConfiguration.from_tf_config(
        (tmp_path / "worker-1").read_text(), needs_centers=False
    )
    assert (config.num_workers, config.centers) == (2, ())


def test_each_center_has_a_folder_for_snapshots(cluster, tmp_path):
    center = (
        "import os, sys\n"
        "folder = sys.argv[1].removeprefix('--snapshot_dir=')\n"
        "os.makedirs(folder)\n"
        "open(folder + '/x', 'w').close()\n"
    ) + CENTER
    folder = tmp_path / "snapshots"
    one = cluster("", 1, 2, center=center, snapshot_dir=folder)
    assert one.run(DEADLINE_S) == 0
    assert (folder / "ps-0" / "x").exists()
    assert (folder / "ps-1" / "x").exists()


def test_the_package_is_found_from_anywhere(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cluster("import tf_elastic.cluster", 1, 0).run(DEADLINE_S) == 0


# Cores and GPUs.


def test_cores_and_gpus_are_shared_out(monkeypatch):
    monkeypatch.setattr(machine_share, "_cores", lambda: [0, 1, 2, 3, 4])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    two = machine_share.share_out(2)
    assert [share.cores for share in two] == [(0, 1), (2, 3, 4)]
    assert [share.gpus for share in two] == [("3",), ("5",)]
    assert two[1].environment() == {
        "TF_NUM_INTRAOP_THREADS": "3",
        "OMP_NUM_THREADS": "3",
        "CUDA_VISIBLE_DEVICES": "5",
    }
    seven = machine_share.share_out(7)
    assert [share.cores for share in seven][4:] == [(4,), (0,), (1,)]
    assert [share.gpus[0] for share in seven] == list("3535353")
    growth = seven[0].environment()["TF_FORCE_GPU_ALLOW_GROWTH"]
    assert growth == "true"


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("", []), ("-1", []), ("0,-1,2", ["0"]), ("GPU-a, 1", ["GPU-a", "1"])],
)
def test_gpus_that_the_user_has_chosen(monkeypatch, visible, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine_share._gpus() == gpus


def test_gpus_that_are_found(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_share._gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    assert machine_share._gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine_share._gpus() == []


def test_threads_that_the_user_has_chosen(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "mark(TASK, os.environ['OMP_NUM_THREADS'])"
    assert cluster(code, 1, 0).run(DEADLINE_S) == 0
    assert (tmp_path / "worker-0").read_text() == "7"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux pins")
def test_pinned_workers(cluster, tmp_path):
    code = "mark(TASK, json.dumps(sorted(os.sched_getaffinity(0))))"
    one = cluster(code, 2, 0, pin=True)
    assert one.run(DEADLINE_S) == 0
    for index in range(2):
        cores = json.loads((tmp_path / f"worker-{index}").read_text())
        assert tuple(cores) == one.process("worker", index).cores != ()


# Processes that die.


def test_a_center_that_dies_is_started_again(cluster, caplog, tmp_path):
    one = cluster(WAIT_FOR_FILE, 1, 2).start()
    center = one.process("ps", 1)
    first = one.kill("ps", 1)
    until(
        lambda: (
            list(tmp_path.glob(f"ps-1.{center.pid}.up")) and center.pid != first
        ),
        "second center",
    )
    assert center.exit_codes == [-signal.SIGKILL]
    assert center.restarts == 1
    assert center.is_alive
    assert "ps 1" in caplog.text and "SIGKILL" in caplog.text
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0


def test_a_center_that_dies_too_often(cluster, caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(process_keeper, "_BACK_OFF_S", (0.0,))
    center = (
        HEAD
        + "if (HERE / 'once').exists(): sys.exit('no more')\n"
        + "mark('once')\n"
        + CENTER
    )
    one = cluster("stay()", 1, 1, center=center, max_restarts=3).start()
    one.kill("ps", 0)
    assert one.wait(DEADLINE_S) == 1
    assert one.failure == "ps 0 died too often."
    assert one.process("ps", 0).exit_codes == [-9, 1, 1, 1]
    assert "no more" in caplog.text
    one.stop()
    assert not any(map(is_running, pids(one)))


def test_a_worker_that_dies_is_reported(cluster, caplog):
    code = "if INDEX == 1:\n  print(*range(100), sep='\\n')\n  sys.exit(3)\n"
    assert cluster(code).run(DEADLINE_S) == 0
    text = caplog.text
    assert "worker 1" in text and "exit status 3" in text
    assert "worker-1.log" in text and "not started again" in text
    assert "\n  80\n" in text and "\n  99" in text and "\n  79\n" not in text


def test_a_worker_that_is_started_again(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(process_keeper, "_BACK_OFF_S", (0.0,))
    code = (
        "if INDEX == 1:\n"
        "  n = len(list(HERE.glob('try-*')))\n"
        "  mark(f'try-{n}')\n"
        "  sys.exit(0 if n == 2 else 5)\n"
    )
    one = cluster(code, restart_workers=True)
    assert one.run(DEADLINE_S) == 0
    worker = one.process("worker", 1)
    assert worker.exit_codes == [5, 5, 0]
    assert len(worker.started_s) == 3
    assert len(list(tmp_path.glob("try-*"))) == 3


def test_a_worker_that_dies_too_often(cluster, caplog, monkeypatch):
    monkeypatch.setattr(process_keeper, "_BACK_OFF_S", (0.0,))
    one = cluster("sys.exit(INDEX)", restart_workers=True, max_restarts=2)
    assert one.run(DEADLINE_S) == 0
    assert one.process("worker", 1).exit_codes == [1, 1, 1]
    assert "not started again, after 2 restarts" in caplog.text


@pytest.mark.parametrize(
    ("end", "status"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_the_chief_fails(cluster, end, status):
    one = cluster(f"{end} if INDEX == 0 else stay()")
    assert one.run(DEADLINE_S) == status
    assert "The chief, worker 0, died" in one.failure
    assert not any(map(is_running, pids(one)))


def test_restart_by_hand(cluster, tmp_path):
    one = cluster(WAIT_FOR_FILE).start()
    worker = one.process("worker", 1)
    before = worker.pid
    assert one.restart("worker", 1) is worker
    assert worker.pid != before
    assert not is_running(before) and is_running(worker.pid)
    assert (worker.exit_codes, worker.restarts) == ([-9], 0)
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0
    # Also one that was done.
    (tmp_path / "go").unlink()
    one.restart("worker", 1)
    with pytest.raises(TimeoutError, match="worker 1"):
        one.wait(0.01)
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0
    one.stop()
    with pytest.raises(local.LocalClusterError, match="being stopped"):
        one.restart("worker", 1)


def test_the_deadline_names_who_is_waited_for(cluster):
    one = cluster("stay() if INDEX else None").start()
    until(lambda: one.process("worker", 0).ended, "end of worker 0")
    with pytest.raises(TimeoutError, match="at work: worker 1.") as error:
        one.wait(0.01)
    assert "logs" in str(error.value)


def test_a_worker_that_joins(cluster, tmp_path):
    code = "mark(TASK, os.environ['TF_CONFIG'])\n" + WAIT_FOR_FILE
    one = cluster(code)
    with pytest.raises(local.LocalClusterError, match="`start` first"):
        one.add_worker()
    one.start()
    assert one.add_worker() is one.process("worker", 2)
    until(lambda: (tmp_path / "worker-2").exists(), "third worker")
    config = ClusterConfiguration.from_tf_config(
        (tmp_path / "worker-2").read_text()
    )
    assert (config.task, config.num_workers) == ("worker 2", 3)
    until(lambda: (tmp_path / "worker-0").exists(), "first worker")
    before = ClusterConfiguration.from_tf_config(
        (tmp_path / "worker-0").read_text()
    )
    assert before.workers == config.workers[:2]
    assert before.centers == config.centers
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0
    assert one.process("worker", 2).exit_codes == [0]


def test_an_evaluator_that_dies(cluster, caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(process_keeper, "_BACK_OFF_S", (0.0,))
    code = "if ROLE == 'evaluator': sys.exit(4)\n" + WAIT_FOR_FILE
    one = cluster(code, evaluator=True, max_restarts=1).start()
    evaluator = one.process("evaluator", 0)
    until(lambda: evaluator.ended, "end of the evaluator")
    (tmp_path / "go").touch()
    # The workers do not need it.
    assert one.wait(DEADLINE_S) == 0
    assert evaluator.exit_codes == [4, 4]
    assert "evaluator 0" in caplog.text


def test_an_unknown_task(cluster):
    one = cluster("stay()").start()
    with pytest.raises(KeyError, match="Choose one of: ps 0, worker 0"):
        one.process("worker", 2)


# Starts that fail.


def test_a_center_that_does_not_start(cluster):
    center = "import sys; sys.exit('the model is another one')"
    one = cluster("stay()", center=center)
    message = "(?s)ps 0 ended before.*status 1.*ps-0.log.*is another one"
    with pytest.raises(local.LocalClusterError, match=message):
        one.start()
    assert not any(map(is_running, [one.process("ps", 0).pid]))
    assert one.process("worker", 0).popen is None


def test_a_center_that_never_listens(cluster):
    one = cluster("", center=HEAD + "stay()", center_deadline_s=0.3)
    message = "Waited 0.3 s for ps 0 to listen.*"
    with pytest.raises(local.LocalClusterError, match=message):
        one.start()
    assert not is_running(one.process("ps", 0).pid)


def test_a_port_that_is_taken_meanwhile(cluster, monkeypatch, caplog):
    find = local_tasks.addresses.free_ports
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        answers = [[*find(2), taken], find(3)]
        monkeypatch.setattr(
            local_tasks.addresses, "free_ports", lambda *_: answers.pop(0)
        )
        assert cluster("").run(DEADLINE_S) == 0
    assert f"Port {taken} was taken" in caplog.text
    assert answers == []


def test_a_program_that_is_not_there(cluster, tmp_path):
    one = cluster("")
    one._tasks.command = ["no-such-program"]
    assert one.run(DEADLINE_S) == 127
    log = (tmp_path / "logs" / "worker-0.log").read_text()
    assert "no-such-program cannot be run" in log


def test_a_cluster_is_started_once(cluster):
    one = cluster("")
    assert one.run(DEADLINE_S) == 0
    with pytest.raises(local.LocalClusterError, match="Make another one"):
        one.start()


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((["x"], 0, 1), "`num_workers` must be an integer >= 1.*=0"),
        ((["x"], True, 1), "`num_workers` must.*=True"),
        ((["x"], 1, -1), "`num_centers` must be an integer >= 0.*=-1"),
        (([], 1, 1), r"`command` must be a list.*=\[\]"),
        (("x", 1, 1), "`command` must be a list.*='x'"),
    ],
)
def test_wrong_arguments(args, part, tmp_path):
    with pytest.raises(ValueError, match=f"{part}.*"):
        local.LocalCluster(*args, tmp_path)


def test_a_watcher_that_dies_fails_its_owner(cluster, monkeypatch):
    one = cluster("stay()").start()

    def broken(processes):
        raise ZeroDivisionError

    monkeypatch.setattr(local, "verdict", broken)
    with pytest.raises(local.LocalClusterError, match="watches") as error:
        one.wait(DEADLINE_S)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


# The end, in every way.

STUBBORN = (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "helper = subprocess.Popen(['sleep', '600'])\n"
    "mark(f'{TASK}.{helper.pid}.up')\n"
    "stay()\n"
)


def all_up(folder, count):
    """The process ids of all that have said that they are up."""

    def found():
        names = [path.name for path in folder.glob("*.up")]
        return len(names) >= count and [int(n.split(".")[1]) for n in names]

    return until(found, f"{count} processes")


def test_an_exception_ends_all(cluster, tmp_path):
    with pytest.raises(ZeroDivisionError), cluster("stay()"):
        up = all_up(tmp_path, 3)
        raise ZeroDivisionError
    assert not any(map(is_running, up))


def test_one_that_does_not_want_to_end(cluster, tmp_path, caplog):
    with cluster(STUBBORN, 1, grace_s=0.2):
        up = all_up(tmp_path, 3)
    assert not any(map(is_running, up))
    assert "worker 0 did not end within 0.2 s" in caplog.text


def test_one_that_is_paused(cluster, tmp_path):
    with cluster("stay()", 1) as one:
        up = all_up(tmp_path, 2)
        one.kill("worker", 0, signal.SIGSTOP)
    assert not any(map(is_running, up))
    assert one.process("worker", 0).exit_codes == [-signal.SIGTERM]


def test_centers_outlive_workers(cluster, tmp_path):
    code = (
        "def last(*_):\n"
        "    host, port = CONFIG['cluster']['ps'][0].rsplit(':', 1)\n"
        "    socket.create_connection((host, int(port)), 5).close()\n"
        "    sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, last)\n"
        "stay()\n"
    )
    with cluster(code, 1) as one:
        all_up(tmp_path, 2)
    assert one.process("worker", 0).exit_codes == [7]


def test_ctrl_c_is_passed_on(cluster, tmp_path):
    code = (
        "try: stay()\nexcept KeyboardInterrupt: print('bye'), sys.exit(130)\n"
    )
    output = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        cluster(code, 1, output=output) as one,
    ):
        all_up(tmp_path, 2)
        raise KeyboardInterrupt
    assert one.process("worker", 0).exit_codes == [130]
    assert output.getvalue() == "bye\n"


LAUNCHER = f"""
import sys
from tf_elastic.cluster.launch import local
code, center, folder = sys.argv[1:]
with local.LocalCluster(
    [sys.executable, "-c", code], 2, 1, folder,
    center_command=[sys.executable, "-c", center], grace_s=5,
    env={{"HERE": folder}},
) as one:
    sys.exit(one.wait({DEADLINE_S}))
"""


@contextlib.contextmanager
def launcher(folder, code):
    """A process that launches a cluster and waits for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, HEAD + code, CENTER, str(folder)],
        cwd=tree.ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_signal_to_the_launcher_ends_all(tmp_path, number, code):
    work = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nstay()"
    with launcher(tmp_path, work) as process:
        up = all_up(tmp_path, 3)
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == code
        assert not any(map(is_running, up))


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_kill_9_of_the_launcher_ends_all(tmp_path):
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nstay()"
    with launcher(tmp_path, stubborn) as process:
        up = all_up(tmp_path, 3)
        assert all(map(is_running, up))
        process.kill()
        until(lambda: not any(map(is_running, up)), "end of all")


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_parent_that_is_gone_already(tmp_path):
    # Its parent is this process, and not the one that it is told.
    command = [
        *isolation.python_of_children(),
        "--parent=1",
        "--",
        "touch",
        str(tmp_path / "x"),
    ]
    assert subprocess.run(command, timeout=DEADLINE_S).returncode == 1
    assert not (tmp_path / "x").exists()


# A network of one's own.

SERVE = """
server = socket.create_server(("", int(os.environ["PORT"])))
inside = [("127.0.0.1", int(os.environ["PORT"]))]
inside += [tuple(a.rsplit(":", 1)) for a in CONFIG["cluster"].get("ps", [])]
for host, port in inside:
    socket.create_connection((host, int(port)), 5).close()
mark("interfaces", json.dumps([n for _, n in socket.if_nameindex()]))
stay()
"""


@pytest.fixture
def private_network():
    """Skips, with a word, where the machine gives none."""
    try:
        with isolation.private_network():
            pass
    except isolation.IsolationError as error:
        pytest.skip(str(error))


def can_connect(port, pid=None):
    """Whether any address of this machine is answered at a port."""
    hosts = {"127.0.0.1", "0.0.0.0", socket.gethostname()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # The address that other hosts see; nothing is sent.
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))
            hosts.add(probe.getsockname()[0])
    for host in hosts:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), 5).close()
            return True
    return False


@pytest.mark.parametrize("isolated", [True, False])
def test_nobody_outside_can_connect(
    cluster, tmp_path, isolated, private_network
):
    [port] = local_tasks.addresses.free_ports(1)
    one = cluster(
        SERVE, 1, 1, isolate_network=isolated, env={"PORT": str(port)}
    )
    with one:
        until(lambda: (tmp_path / "interfaces").exists(), "server")
        # The same server, in the open, is the proof that the test sees it.
        assert can_connect(port) is not isolated
        names = json.loads((tmp_path / "interfaces").read_text())
        assert (names == ["lo"]) == isolated
        assert one.report()["isolated"] is isolated
        up = pids(one)
    assert not any(map(is_running, up))


def test_isolated_processes_end_with_the_launcher(tmp_path, private_network):
    text = LAUNCHER.replace("grace_s=5", "grace_s=5, isolate_network=True")
    process = subprocess.Popen(
        [sys.executable, "-c", text, HEAD + "stay()", CENTER, str(tmp_path)],
        cwd=tree.ROOT,
    )
    with process:
        up = all_up(tmp_path, 3)
        process.kill()
    until(lambda: not any(map(is_running, up)), "end of all")


def test_a_restarted_center_is_in_the_same_network(
    cluster, tmp_path, private_network
):
    one = cluster("stay()", 1, 1, isolate_network=True).start()
    center = one.process("ps", 0)
    place = os.readlink(f"/proc/{center.pid}/ns/net")
    assert place != os.readlink("/proc/self/ns/net")
    one.restart("ps", 0)
    until(
        lambda: (tmp_path / f"ps-0.{center.pid}.up").exists(), "second center"
    )
    assert os.readlink(f"/proc/{center.pid}/ns/net") == place


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A machine that gives no network of one's own."""
    program = tmp_path / "refused.py"
    program.write_text(
        "import sys\nsys.path.insert(0, sys.argv[1])\n"
        "import child, errno\n"
        "def refuse(name, *args):\n"
        "    raise PermissionError(errno.EPERM, f'{name}: not permitted')\n"
        "child._libc = refuse\n"
        "sys.exit(child.main(sys.argv[2:]))\n"
    )
    folder = str(pathlib.Path(child.__file__).parent)
    real = isolation.python_of_children()
    monkeypatch.setattr(
        isolation,
        "python_of_children",
        lambda: (
            [sys.executable, "-I", "-S", str(program), folder]
            if sys._getframe(1).f_code.co_name == "_make"
            else real
        ),
    )


def test_where_there_is_none_it_is_refused(cluster, no_network):
    one = cluster("stay()", 1, 0, isolate_network=True)
    with pytest.raises(isolation.IsolationError) as error:
        one.start()
    for part in (
        "TensorFlow's servers",
        "Received: [Errno 1] unshare: not permitted",
        "max_user_namespaces",
        "--trusted_network",
    ):
        assert part in str(error.value)
    assert one.processes() == []


def test_where_there_is_none_and_the_network_is_trusted(
    cluster, no_network, caplog
):
    one = cluster("", 1, 0, isolate_network=True, trusted_network=True)
    assert one.run(DEADLINE_S) == 0
    assert "open to the network" in caplog.text
    assert one.report()["isolated"] is False


def test_a_holder_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(
        isolation,
        "python_of_children",
        lambda: [sys.executable, "-c", "import time; time.sleep(60)"],
    )
    with (
        pytest.raises(isolation.IsolationError, match="within 0.1 s"),
        isolation.private_network(deadline_s=0.1),
    ):
        pass
