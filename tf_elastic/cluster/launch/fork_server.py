"""A process that has imported what takes long, and forks others from itself.

`ForkServer` starts it, as `python -m`, with an open socket. It imports the
modules that are named, says so, and then makes of each request a process that
runs a Python program as `python PROGRAM` would, but for the imports.

The process is the launcher's own child, as if the launcher had started it: a
process in between forks it and ends, and the launcher, which is the nearest
"child subreaper", adopts it. So it lives on if this one dies, and whoever
waits for it is the launcher. Linux only.
"""

import argparse
import array
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from tf_elastic.cluster.launch import child

MAX_REQUEST = 1 << 20  # bytes
MAX_FILES = 8
ADOPTED_WITHIN_S = 10.0


def main(argv: Sequence[str]) -> None:
    """Serves until the launcher closes the socket, or becomes a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("modules", nargs="*", help="what is imported")
    args = parser.parse_args(argv)
    # Ctrl-C is for the programs; this one ends with the launcher.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=args.socket) as connection:
        for module in args.modules:
            importlib.import_module(module)
        others = [t.name for t in threading.enumerate()][1:]
        if others:
            raise SystemExit(
                "A process that has threads cannot be forked. An import has "
                f"started these: {', '.join(others)}."
            )
        # What is there now stays: no collector writes to shared pages.
        gc.collect()
        gc.freeze()
        connection.sendall(b"ready")
        found = _serve(connection)
    if found is not None:
        _run(found)


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Forks a process for each request; in it, returns the request."""
    while True:
        text, files, _, _ = socket.recv_fds(connection, MAX_REQUEST, MAX_FILES)
        if not text:
            return None
        sys.stdout.flush()
        sys.stderr.flush()
        between = os.fork()
        if between:
            for file in files:
                os.close(file)
            os.waitpid(between, 0)
            continue
        if os.fork():
            os._exit(0)
        try:
            request: dict[str, Any] = json.loads(text)
            _become(request, files)
            connection.sendall(json.dumps({"pid": os.getpid()}).encode())
            return request
        except BaseException:
            told = {"error": traceback.format_exc()}
            connection.sendall(json.dumps(told).encode())
            os._exit(1)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Makes of this process what the launcher would have started."""
    os.setsid()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    child.enter(files[3:])
    deadline = time.monotonic() + ADOPTED_WITHIN_S
    # Only then: the end of the process in between must not end this one.
    while os.getppid() != request["launcher"]:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"Waited {ADOPTED_WITHIN_S:g} s for the launcher, process "
                f"{request['launcher']}, to adopt this one. The parent is "
                f"{os.getppid()}."
            )
        time.sleep(0.001)
    if not child.tie_to_parent(request["launcher"]):
        raise ProcessLookupError("The launcher has ended.")
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    _call_itself(request["name"], request["command"])
    # Each process has random numbers of its own where none are seeded.
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(array.array("I", os.urandom(32)))


def _call_itself(name: str, command: Sequence[str]) -> None:
    """Has `ps` and `top` show the program; to the kernel it is a copy."""
    child.set_name(name)
    title = " ".join(command).encode()
    with open("/proc/self/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    begin, end = map(int, fields[45:47])  # arg_start and arg_end
    if begin:  # else it may not be seen
        shown = title[: end - begin - 1]
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, shown, len(shown))


def _run(request: dict[str, Any]) -> None:
    """Runs a program as `python` would."""
    _, *rest = request["command"]
    is_module = rest[0] == "-m"
    program, *arguments = rest[is_module:]
    sys.argv = [program, *arguments]
    if is_module:
        sys.path[0] = os.getcwd()
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
