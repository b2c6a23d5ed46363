"""Python programs of tests that need not import TensorFlow each."""

import atexit
import json
import os
import subprocess
import sys
import tempfile

from tests import source_tree
from tf_elastic.cluster.launch import preloaded

MODULES = (
    "tensorflow",
    "keras",
    "tf_elastic.callbacks",
    "tf_elastic.data",
    "tf_elastic.models",
    "tf_elastic.optimizers",
    "tf_elastic.strategies",
)
DEADLINE_S = 120
_servers = {}


def start(arguments, environment, log, stdin=None, stderr=None):
    """Starts `python ARGUMENTS`, if it can be as a fork.

    Args:
        arguments: a script, or "-m" and a module, and its arguments.
        environment: all of it.
        log: an open file for its output.
        stdin: one that it reads; None for nothing.
        stderr: one for its errors; None for `log`.
    """
    command = [sys.executable, *arguments]
    try:
        return _server(environment).start(
            command,
            environment,
            log,
            stderr=stderr,
            stdin=stdin,
            folder=str(source_tree.ROOT),
        )
    except preloaded.ForkError:
        return subprocess.Popen(
            command,
            cwd=source_tree.ROOT,
            env=environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=log,
            stderr=stderr or subprocess.STDOUT,
        )


def _server(environment):
    """One for each environment, until this process ends."""
    common = preloaded.common(environment)
    key = json.dumps(common, sort_keys=True)
    if key not in _servers:
        file, log = tempfile.mkstemp(suffix="-imports.log")
        os.close(file)
        _servers[key] = preloaded.ForkServer(MODULES, common, log)
        atexit.register(os.unlink, log)
        atexit.register(_servers[key].close)
    _servers[key].wait(DEADLINE_S)
    return _servers[key]
