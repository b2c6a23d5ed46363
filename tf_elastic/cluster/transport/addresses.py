"""Network addresses: their form, whom they let in, and free ports."""

import contextlib
import errno
import ipaddress
import random
import socket
import threading
from typing import Any

# Not `is_private` of ipaddress, which counts test and reserved networks too.
_PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # link local
        "100.64.0.0/10",  # behind a carrier's address translation
        "fc00::/7",  # unique local
        "fe80::/10",  # link local
    )
]
_OUTGOING = "/proc/sys/net/ipv4/ip_local_port_range"
_RESOLVE_S = 5.0  # of waiting for the name service
_ORDER = ("loopback", "private", "public")  # by who may connect


class AddressError(ValueError):
    """An address that cannot be understood, resolved or used here."""


class PublicAddressError(AddressError):
    """A server would be open to the Internet without protection."""


def split(address: str) -> tuple[str, int]:
    """Takes "host:port" apart.

    Args:
        address: such as "node3:2222", "10.0.0.7:2222" or "[fd00::7]:2222".

    Returns:
        The host, without brackets, and the port, from 1 to 65535.

    Raises:
        AddressError: the address has another form.

    Example:

    >>> split("[::1]:2222")
    ('::1', 2222)
    """
    if not isinstance(address, str):
        raise AddressError(
            "An address must be a text of the form host:port. Received: "
            f'{address!r}. Write it as in "10.0.0.7:2222".'
        )
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    spaced = any(letter.isspace() for letter in address)
    if not (colon and host) or spaced or "/" in host:
        raise AddressError(
            "An address must have the form host:port, without a scheme and "
            f"without spaces. Received: {address!r}. Write it as in "
            '"10.0.0.7:2222".'
        )
    if ":" in host and not bracketed:
        raise AddressError(
            "An IPv6 address must stand in brackets. Received: "
            f'{address!r}. Write it as in "[fd00::7]:2222".'
        )
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise AddressError(
            "The port of an address must be an integer from 1 to 65535. "
            f"Received: {port!r} in {address!r}. Write it as in "
            '"10.0.0.7:2222".'
        )
    return host, int(port)


def join(host: str, port: int) -> str:
    """The address of a port on a host; the inverse of `split`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports of this machine on which nobody listens.

    All are held open while they are picked, so none comes twice. Then they
    are released: until the server that is meant to has bound its port, any
    other process may take it. A caller therefore starts its servers at once,
    looks whether each of them listens, and begins anew with other ports if
    one does not, as `LocalCluster` does.

    They are none of those that the system gives to outgoing connections: the
    port of a server that is down for a moment would be taken by one of
    these, even by that of a client which tries to reach it.

    Args:
        count: how many, at least 0.
        host: the address of this machine to look at.

    Returns:
        The ports.

    Raises:
        AddressError: there are not so many.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    candidates = _ports_of_servers()
    random.SystemRandom().shuffle(candidates)
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            if not candidates:
                raise AddressError(
                    f"Received: a wish for {count} free ports of {host}, of "
                    f"which there are {len(ports)}. End what takes the others."
                )
            probe = held.enter_context(
                socket.socket(family, socket.SOCK_STREAM)
            )
            with contextlib.suppress(OSError):
                probe.bind((host, candidates.pop()))
                ports.append(probe.getsockname()[1])
    return ports


def _ports_of_servers() -> list[int]:
    """Ports that need no rights and are not for outgoing connections."""
    try:
        with open(_OUTGOING, encoding="ascii") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        low, high = 32_768, 65_535  # Linux's default begins there
    ports = [p for p in range(10_000, 65_536) if not low <= p <= high]
    # Where nearly all are for outgoing connections, one has to do with these.
    return ports if len(ports) >= 1_000 else list(range(10_000, 65_536))


def resolve(host: str) -> list[str]:
    """The IP addresses of a host, by its name or IP address; at least one.

    Raises:
        AddressError: the name is unknown, or no answer came in time.
    """
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(
                socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            answer.append(error)

    # The C library's look-up knows no deadline: a thread that can be left.
    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(_RESOLVE_S)
    if not answer:
        raise AddressError(
            f"The host {host!r} could not be resolved: the name service did "
            f"not answer within {_RESOLVE_S:g} s. Give its IP address, or "
            "look at /etc/resolv.conf."
        )
    if isinstance(answer[0], Exception):
        raise AddressError(
            f"The host {host!r} could not be resolved: {answer[0]}. Look for "
            "a misspelling, or give its IP address."
        ) from answer[0]
    return list(dict.fromkeys(str(info[4][0]) for info in answer[0]))


def classify(host: str) -> str:
    """Who can reach a host, judged by its address.

    Args:
        host: a name or an IP address. Of several addresses of a name, the
            one that most can reach counts.

    Returns:
        "loopback": this machine. "private": a network of one's own (RFC 1918,
        link local, unique local, carrier-grade NAT). "public": anyone; also
        0.0.0.0 and ::, which mean every address that the machine has.

    Raises:
        AddressError: the name cannot be resolved.

    Example:

    >>> classify("127.0.0.1"), classify("192.168.1.7"), classify("8.8.8.8")
    ('loopback', 'private', 'public')
    """
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        found = [
            ipaddress.ip_address(text.partition("%")[0])
            for text in resolve(host)
        ]
    return max(map(_classify_ip, found), key=_ORDER.index)


def _classify_ip(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> str:
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return "loopback"
    # Of the other version, an address is in no network.
    return "private" if any(ip in net for net in _PRIVATE) else "public"


def check_not_public(address: str, security: Any) -> None:
    """Refuses to serve at a public address without protection.

    Args:
        address: "host:port", where a server is about to listen.
        security: a `Security`.

    Raises:
        PublicAddressError: the address is public, and neither is TLS
            configured together with a token, nor the network trusted.
        AddressError: the address is malformed or cannot be resolved.
    """
    if security.trusted_network:
        return
    if security.token and security.certificate and security.key:
        return
    host, _ = split(address)
    if classify(host) != "public":
        return
    raise PublicAddressError(
        f"Received: the public address {address}. Whoever can reach a center "
        "without TLS and a token can read and overwrite the parameters. "
        "Do one of three things: give an address of a private network "
        "(10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and the like); or set "
        "TF_ELASTIC_TOKEN, TF_ELASTIC_TLS_CERT and TF_ELASTIC_TLS_KEY here, "
        "and TF_ELASTIC_TLS_CA at the workers; or, if a firewall keeps all "
        "others out, say so with --trusted_network or "
        "TF_ELASTIC_TRUSTED_NETWORK=1."
    )


def port_in_use(address: str) -> bool:
    """Whether another process listens at an address of this machine.

    Args:
        address: "host:port", the host being this machine.

    Returns:
        Whether a server could not bind it now because another has it.

    Raises:
        AddressError: the host is not an address of this machine, or the port
            may not be used by this user.
    """
    host, port = split(address)
    ip = resolve(host)[0]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server that linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            if error.errno == errno.EADDRNOTAVAIL:
                raise AddressError(
                    f"Received: {address}, which is no address of this "
                    f"machine ({host} is {ip}). Start this process on the "
                    "machine that TF_CONFIG gives it, or correct TF_CONFIG."
                ) from error
            raise AddressError(
                f"Received: {address}, at which this user may not listen: "
                f"{error.strerror}. Choose a port above 1023."
            ) from error
    return False
