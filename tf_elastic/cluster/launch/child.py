"""What a process of a local cluster does before its own program begins.

`LocalCluster` starts this file, not this module, in an isolated Python: it
needs the standard library only, and is there before anything else is found.
It ties the process to the launcher, gives it its cores and its network, and
then becomes the program: the process id stays.

With --hold it makes a network of its own for others to enter, says so, and
waits until its standard input is closed. Linux only, but for the ties.
"""

import argparse
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_INTERFACE = "16sh14x"  # struct ifreq: a name and flags


def main(argv: Sequence[str]) -> int:
    """Becomes the program that is named, or holds a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--parent", type=int, help="its process id")
    parser.add_argument("--cores", default="", help="such as 0,1")
    parser.add_argument("--namespaces", default="", help="open files: 5,6")
    parser.add_argument("command", nargs="*")
    args = parser.parse_args(argv)
    if args.hold:
        return hold()
    enter(list(map(int, filter(None, args.namespaces.split(",")))))
    # After that: entering a user namespace unties again.
    if not tie_to_parent(args.parent):
        return 1
    if args.cores:
        os.sched_setaffinity(0, map(int, args.cores.split(",")))
    try:
        os.execvp(args.command[0], args.command)
    except OSError as error:
        sys.stderr.write(f"{args.command[0]} cannot be run: {error}\n")
    return 127


def enter(namespaces: Sequence[int]) -> None:
    """Enters namespaces.

    Args:
        namespaces: their open files, in this order, which are closed.

    Raises:
        OSError: the kernel does not allow it.
    """
    for descriptor in namespaces:
        _libc("setns", descriptor, 0)
        os.close(descriptor)


def tie_to_parent(parent: int) -> bool:
    """Ends this process when its parent ends, even by `kill -9`.

    The kernel counts the *thread* that started this process as the parent.

    Args:
        parent: the process that started this one.

    Returns:
        Whether the parent is still there.
    """
    if sys.platform == "linux":
        _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have ended before: then another has adopted this process.
    return os.getppid() == parent


def set_name(name: str) -> None:
    """Sets what `ps` calls this thread, in its first 15 bytes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    _libc("prctl", _PR_SET_NAME, ctypes.addressof(text), 0, 0, 0)


def hold() -> int:
    """Makes a network, writes its namespaces, and waits to be let go."""
    try:
        told = f"ok {','.join(make_network())}"
    except OSError as error:
        told = f"error {error}"
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()
    sys.stdin.read()
    return 0


def make_network() -> list[str]:
    """Moves this process to a new network that has only a loopback.

    Without the right to do so, it becomes first the owner of a new user
    namespace, in which its user and group stay what they are.

    Returns:
        The names under /proc/self/ns of what another process has to enter,
        in this order.

    Raises:
        OSError: the kernel does not allow it.
    """
    namespaces = ["net"]
    try:
        _libc("unshare", _CLONE_NEWNET)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        _libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        namespaces = ["user", "net"]
    _raise_loopback()
    return namespaces


def _raise_loopback() -> None:
    """What `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack(_INTERFACE, b"lo", 0)
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
        flags = struct.unpack(_INTERFACE, answer)[1] | _IFF_UP
        request = struct.pack(_INTERFACE, b"lo", flags)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)


def _libc(name: str, *args: int) -> None:
    """Calls a function of the C library that tells errors by errno."""
    library = ctypes.CDLL(None, use_errno=True)
    longs = [ctypes.c_ulong(arg) for arg in args[1:]]
    if getattr(library, name)(ctypes.c_int(args[0]), *longs) != 0:
        number = ctypes.get_errno()
        # The subclass of OSError follows from the number.
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
