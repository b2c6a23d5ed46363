"""Hosts that are network namespaces, and slow links between them.

Needs root and iproute2.
"""

import contextlib
import os
import shutil
import subprocess


def is_missing():
    """Whether this machine cannot have such hosts."""
    lacks = [name for name in ("ip", "tc") if not shutil.which(name)]
    return bool(lacks) or os.geteuid() != 0


class _Network(contextlib.AbstractContextManager):
    """Base class: made when the block begins, removed when it ends."""

    def __init__(self):
        self._end = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self._end.close()
            raise
        return self

    def __exit__(self, *error):
        self._end.close()

    def _make(self):
        raise NotImplementedError

    def _add_hosts(self, names):
        for name in names:
            _command("ip", "netns", "add", name)
            self._end.callback(_command, "ip", "netns", "del", name)
            _command("ip", "-n", name, "link", "set", "lo", "up")


def _join(a, first, b, second):
    """A cable; removed with the namespaces of its ends."""
    _command(
        *("ip", "link", "add", first, "netns", a, "type", "veth"),
        *("peer", "name", second, "netns", b),
    )
    for name, device in ((a, first), (b, second)):
        _command("ip", "-n", name, "link", "set", device, "up")


def _name(host, device, address):
    _command(*("ip", "-n", host, "addr", "add", f"{address}/24", "dev", device))


def _limit(host, device, rate):
    """Limits what leaves by a device."""
    _command(
        *("tc", "-n", host, "qdisc", "replace", "dev", device),
        *("root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms"),
    )


def _command(*words):
    subprocess.run(
        words, check=True, timeout=30, capture_output=True, text=True
    )


class SlowNetwork(_Network):
    """Two hosts and the link between them, removed when the block ends.

    Raises:
        OSError, subprocess.SubprocessError: the machine does not give them.
    """

    def __init__(self):
        super().__init__()
        own = os.getpid()
        self.names = [f"tebench{own}{side}" for side in "ab"]
        self.addresses = ["10.213.7.1", "10.213.7.2"]
        self._devices = [f"te{own}{side}" for side in "ab"]

    def _make(self):
        self._add_hosts(self.names)
        (a, b), (first, second) = self.names, self._devices
        _join(a, first, b, second)
        for host in zip(self.names, self._devices, self.addresses, strict=True):
            _name(*host)

    def limit(self, rate):
        """Limits the link, each way."""
        for name, device in zip(self.names, self._devices, strict=True):
            _limit(name, device, rate)


class SwitchedNetwork(_Network):
    """Hosts at one switch, of which the first has a slow cable.

    Args:
        count: how many hosts.

    Raises:
        OSError, subprocess.SubprocessError: the machine does not give them.
    """

    def __init__(self, count):
        super().__init__()
        own = os.getpid()
        self.names = [f"tebench{own}h{i}" for i in range(count)]
        self.addresses = [f"10.213.8.{i + 1}" for i in range(count)]
        self._switch = f"tebench{own}s"
        self._own = own

    def _make(self):
        self._add_hosts([self._switch, *self.names])
        inside = ("ip", "-n", self._switch, "link")
        _command(*inside, "add", "sw0", "type", "bridge")
        _command(*inside, "set", "sw0", "up")
        for i, (name, address) in enumerate(
            zip(self.names, self.addresses, strict=True)
        ):
            port = f"port{i}"
            _join(name, "eth0", self._switch, port)
            _command(*inside, "set", port, "master", "sw0")
            _name(name, "eth0", address)

    def limit(self, rate):
        """Limits the first host's cable, each way."""
        _limit(self.names[0], "eth0", rate)
        _limit(self._switch, "port0", rate)

    def bytes_of_first(self):
        """What has passed the first host's cable, each way added."""
        folder = "/sys/class/net/port0/statistics"
        files = [f"{folder}/{way}_bytes" for way in ("rx", "tx")]
        words = ("ip", "netns", "exec", self._switch, "cat", *files)
        found = subprocess.run(
            words, check=True, timeout=30, capture_output=True, text=True
        )
        return sum(map(int, found.stdout.split()))
