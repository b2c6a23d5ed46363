"""Processes of a cluster that a test starts, and that end with it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests import source_tree as tree
from tf_elastic.cluster.transport import addresses


class Processes:
    """Starts processes, and ends all of them."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def python(self, *arguments, name, **environment):
        """Starts Python; its output goes to the file `name`.log."""
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TF_ELASTIC_", "TF_CONFIG"))
        }
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=tree.ROOT,
                env={**clean, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def center(self, index, centers, *flags, name=None):
        """Starts a center server."""
        return self.python(
            "-m",
            "tf_elastic.cluster.ps",
            *flags,
            name=name or f"ps{index}",
            TF_CONFIG=tf_config(centers, "ps", index),
        )

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def close(self):
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(timeout=30)


def tf_config(centers, role, index):
    return json.dumps(
        {
            "cluster": {"worker": ["localhost:1"], "ps": centers},
            "task": {"type": role, "index": index},
        }
    )


def free(count):
    return [f"127.0.0.1:{port}" for port in addresses.free_ports(count)]


def self_signed(folder):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("the program openssl is not here")
    paths = str(folder / "certificate.pem"), str(folder / "key.pem")
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -out {paths[0]} "
        f"-keyout {paths[1]} -subj /CN=center "
        "-addext subjectAltName=IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return paths
