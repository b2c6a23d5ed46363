"""Addresses: their form, whom they let in, free ports."""

import socket
import threading

import pytest

from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("node3:2222", ("node3", 2222)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[fd00::7]:65535", ("fd00::7", 65535)),
    ],
)
def test_split_and_join(address, parts):
    assert addresses.split(address) == parts
    assert addresses.join(*parts) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:-1",
        "a:1.5",
        "a:²",
        "a:1 ",
        "http://a:1",
        "::1:1",
        "[]:1",
        None,
        7,
        b"a:1",
    ],
)
def test_malformed(address):
    with pytest.raises(addresses.AddressError, match="Received: ") as error:
        addresses.split(address)
    assert "Write it as in" in str(error.value)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.127.255.255", "private"),
        ("fd12::1", "private"),
        ("fe80::1", "private"),
        ("fe80::1%3", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("172.32.0.1", "public"),
        ("100.128.0.1", "public"),
        ("8.8.8.8", "public"),
        ("2001:4860:4860::8888", "public"),
        ("::ffff:8.8.8.8", "public"),
        # Every address that the machine has.
        ("0.0.0.0", "public"),
        ("::", "public"),
        # Private for `ipaddress`, but nobody's own network.
        ("192.0.2.1", "public"),
        ("240.0.0.1", "public"),
    ],
)
def test_classify(host, kind):
    assert addresses.classify(host) == kind


def test_names_are_resolved(monkeypatch):
    assert addresses.classify("localhost") == "loopback"
    answers = {
        "pod": ["10.0.0.1"],
        "both": ["10.0.0.1", "8.8.8.8", "127.0.0.1"],
        "scoped": ["fe80::1%eth0"],
    }
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *_, **__: [
            (None, None, None, "", (ip, 0)) for ip in answers[host]
        ],
    )
    assert addresses.classify("pod") == "private"
    assert addresses.classify("both") == "public"
    assert addresses.classify("scoped") == "private"


def test_an_unknown_name(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = "'no.invalid' could not be resolved.*Name not known.*IP address"
    with pytest.raises(addresses.AddressError, match=message):
        addresses.classify("no.invalid")


def test_a_name_service_that_does_not_answer(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: released.wait(60)
    )
    monkeypatch.setattr(addresses, "_RESOLVE_S", 0.05)
    message = "'slow' could not be.*not answer within 0.05 s.*IP address"
    try:
        with pytest.raises(addresses.AddressError, match=message):
            addresses.classify("slow")
    finally:
        released.set()


@pytest.fixture
def tls(tmp_path):
    path = tmp_path / "x.pem"
    path.touch()
    return {"certificate": str(path), "key": str(path)}


def test_a_public_address_is_refused(tls):
    for security in (
        Security(),
        Security(token=TOKEN),
        Security(**tls),
    ):
        with pytest.raises(addresses.PublicAddressError) as error:
            addresses.check_not_public("8.8.8.8:2222", security)
        message = str(error.value)
        assert "Received: the public address 8.8.8.8:2222" in message
        assert "private network" in message
        assert "TF_ELASTIC_TLS_CERT" in message
        assert "--trusted_network" in message


def test_what_lets_a_public_address_pass(tls):
    check = addresses.check_not_public
    check("8.8.8.8:2222", Security(token=TOKEN, **tls))
    check("8.8.8.8:2222", Security(trusted_network=True))
    check("10.0.0.1:2222", Security())
    check("127.0.0.1:2222", Security())


def test_free_ports():
    ports = addresses.free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
    assert addresses.free_ports(0) == []


def test_free_ports_are_not_those_of_connections(tmp_path, monkeypatch):
    path = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(addresses, "_OUTGOING", str(path))
    for text, few in (("20000\t50000\n", True), ("1024 65535", False)):
        path.write_text(text)
        ports = addresses.free_ports(50)
        assert all(port >= 10_000 for port in ports)
        if few:
            assert not any(20_000 <= port <= 50_000 for port in ports)
    path.unlink()
    assert all(port < 32_768 for port in addresses.free_ports(50))


def test_no_free_ports(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(addresses, "_ports_of_servers", lambda: [port])
        with pytest.raises(addresses.AddressError, match="2 free ports"):
            addresses.free_ports(2)


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert addresses.port_in_use(address)
    assert not addresses.port_in_use(address)


def test_port_in_use_by_one_that_shares_it():
    with socket.socket() as server:
        # As gRPC's servers do by default.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert addresses.port_in_use(f"127.0.0.1:{port}")


def test_a_port_of_another_machine():
    message = "192.0.2.1:2222, which is no address of this machine"
    with pytest.raises(addresses.AddressError, match=message):
        addresses.port_in_use("192.0.2.1:2222")
