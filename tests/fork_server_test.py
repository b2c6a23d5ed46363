"""Processes that begin with the imports of another."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from tests import cluster_support as support
from tf_elastic.cluster.launch import local
from tf_elastic.cluster.launch import preloaded

DEADLINE_S = 60

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks are adopted on Linux only"
)

# Says what a program can see of itself, in one line.
TELL = textwrap.dedent(
    """
    import __main__, decimal, json, os, random, sys
    import numpy as np

    class Mine:
        pass

    print(
        json.dumps(
            dict(
                imported=decimal.__dict__.get("mark"),
                argv=sys.argv,
                path=sys.path[0],
                name=__name__,
                is_main=__main__.__dict__.get("Mine") is Mine,
                parent=os.getppid(),
                session=os.getsid(0) == os.getpid(),
                variables=dict(os.environ),
                folder=os.getcwd(),
                cores=sorted(os.sched_getaffinity(0)),
                drawn=[random.random(), np.random.random()],
                command=open("/proc/self/cmdline").read().split(chr(0))[0],
                comm=open("/proc/self/comm").read().strip(),
                stdin=sys.stdin.read(),
            )
        ),
        flush=True,
    )
    """
)


class Programs:
    """Starts programs by a server whose `decimal` has a mark."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "marked.py").write_text("import decimal\ndecimal.mark = 1\n")
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *paths]),
        }
        self.server = self.make("marked", "numpy")

    def make(self, *modules):
        return preloaded.ForkServer(
            modules, self.environment, self.folder / "imports.log"
        )

    def start(self, text, *arguments, server=None, **kwargs):
        """Starts a script of this text; returns the process and its log."""
        script = self.folder / "program.py"
        script.write_text(text)
        log = self.folder / "out.log"
        with open(log, "wb") as file:
            process = (server or self.server).start(
                [sys.executable, str(script), *arguments],
                kwargs.pop("environment", self.environment),
                file,
                **kwargs,
            )
        return process, log

    def tell(self, *arguments, **kwargs):
        process, log = self.start(TELL, *arguments, **kwargs)
        assert process.wait(DEADLINE_S) == 0, log.read_text()
        return json.loads(log.read_text())


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    made = Programs(tmp_path_factory.mktemp("programs"))
    assert made.server.wait(DEADLINE_S)
    yield made
    made.server.close()


def test_a_program_finds_all_as_if_started_alone(programs, tmp_path):
    environment = {**programs.environment, "TF_CONFIG": "{}"}
    cores = sorted(os.sched_getaffinity(0))[:1]
    found = programs.tell(
        "--flag=1",
        name="worker 1",
        environment=environment,
        folder=str(tmp_path),
        cores=cores,
    )
    script = str(programs.folder / "program.py")
    assert found["imported"] == 1
    assert found["argv"] == [script, "--flag=1"]
    assert found["path"] == str(programs.folder)
    assert found["name"] == "__main__" and found["is_main"]
    assert found["parent"] == os.getpid() and found["session"]
    assert found["variables"] == environment
    assert found["folder"] == str(tmp_path) and found["cores"] == cores
    assert found["command"].startswith(f"{sys.executable} {script}"[:60])
    assert found["comm"] == "worker 1"
    assert found["stdin"] == ""


def test_a_module_is_run_by_its_name(programs, tmp_path):
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = programs.server.start(
            [sys.executable, "-m", "calendar", "2026", "1"],
            programs.environment,
            file,
        )
    assert process.wait(DEADLINE_S) == 0
    assert "January 2026" in log.read_text()


def test_random_numbers_are_each_ones_own(programs):
    first, second = (programs.tell()["drawn"] for _ in range(2))
    assert first[0] != second[0] and first[1] != second[1]


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        ("import atexit; atexit.register(print, 'bye')", 0, "bye"),
    ],
)
def test_the_end_is_told(programs, text, code, told):
    process, log = programs.start(text)
    assert process.wait(DEADLINE_S) == code == process.poll()
    assert told in log.read_text()


def test_it_outlives_the_server_and_no_more_are_started(programs):
    server = programs.make("marked")
    assert server.wait(DEADLINE_S)
    process, _ = programs.start("import time; time.sleep(600)", server=server)
    server._process.kill()
    server._process.wait()
    with pytest.raises(preloaded.ForkError, match="ended"):
        programs.start("", server=server)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM


def test_it_ends_with_the_launcher(programs, tmp_path):
    """Even if that is killed."""
    code = textwrap.dedent(
        f"""
        import os, sys, time
        from tf_elastic.cluster.launch import preloaded
        server = preloaded.ForkServer([], dict(os.environ), "{tmp_path}/log")
        server.wait({DEADLINE_S})
        with open("{tmp_path}/out", "wb") as log:
            process = server.start(
                [sys.executable, "{tmp_path}/sleep.py"], os.environ, log
            )
        print(process.pid, server._process.pid, flush=True)
        time.sleep(600)
        """
    )
    (tmp_path / "sleep.py").write_text("import time; time.sleep(600)")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as launcher:
        pids = launcher.stdout.readline().split()
        launcher.kill()
    assert len(pids) == 2
    for pid in pids:
        support.until(lambda pid=pid: has_ended(pid), DEADLINE_S)


def has_ended(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize(
    ("command", "changed", "message"),
    [
        (["/bin/true"], {}, "no script of this Python"),
        ([sys.executable, "-c", "1"], {}, "no script of this Python"),
        ([sys.executable], {}, "no script of this Python"),
        ([sys.executable, "a.py"], {"KERAS_BACKEND": "jax"}, "another envir"),
    ],
)
def test_what_it_cannot_run_is_refused(
    programs, tmp_path, command, changed, message
):
    with (
        open(tmp_path / "log", "wb") as log,
        pytest.raises(preloaded.ForkError, match=message),
    ):
        programs.server.start(command, {**programs.environment, **changed}, log)
    assert programs.tell()["imported"] == 1  # It is as good as before.


def test_a_folder_that_is_not_there(programs):
    with pytest.raises(preloaded.ForkError, match="nowhere"):
        programs.tell(folder="/nowhere")
    assert programs.tell()["imported"] == 1


def test_an_import_that_fails(programs, caplog):
    server = programs.make("no_such_module")
    assert not server.wait(DEADLINE_S)
    assert "import their modules themselves" in caplog.text
    log = programs.folder / "imports.log"
    assert str(log) in caplog.text
    assert "No module named 'no_such_module'" in log.read_text()


def test_an_import_that_starts_a_thread(programs):
    (programs.folder / "with_thread.py").write_text(
        "import threading, time\n"
        "threading.Thread(\n"
        "    target=time.sleep, args=[600], daemon=True, name='mine'\n"
        ").start()\n"
    )
    server = programs.make("with_thread")
    assert not server.wait(DEADLINE_S)
    log = (programs.folder / "imports.log").read_text()
    assert "started these: mine" in log


@pytest.mark.parametrize("module", ["marked", "no_such_module"])
def test_a_local_cluster_by_it(programs, tmp_path, monkeypatch, module):
    """A worker, and one that is started again; without it they go, too."""
    monkeypatch.setenv("PYTHONPATH", programs.environment["PYTHONPATH"])
    (tmp_path / "work.py").write_text(
        "import decimal, os, sys\n"
        "print('mark', decimal.__dict__.get('mark'), flush=True)\n"
        "again = os.path.exists('done')\n"
        "open('done', 'w').close()\n"
        "sys.exit(0 if again else 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    cluster = local.LocalCluster(
        [sys.executable, "work.py"],
        num_workers=1,
        num_centers=0,
        log_dir=tmp_path / "logs",
        restart_workers=True,
        preload=[module],
    )
    assert cluster.run(DEADLINE_S) == 0
    mark = 1 if module == "marked" else None
    log = (tmp_path / "logs" / "worker-0.log").read_text()
    assert log == f"mark {mark}\n" * 2
    assert cluster.process("worker", 0).exit_codes == [1, 0]
