"""C2: Vetting at the moment of dialling. Addresses that pass are refused by the network, which is another error."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from registry.upstream.dial import Dialer
from registry.upstream.guard import AddressPolicy, BlockedAddress

LOOPBACK = AddressPolicy((ip_network("127.0.0.1/32"),))


class Names:
    """A resolver whose answers a test sets."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.answers[host]


@pytest.fixture
def listen() -> Iterator[Callable[[str, int], tuple[int, list[str]]]]:
    """Listen on an address: gives the port and the list of who came."""
    sockets: list[socket.socket] = []

    def start(address: str, port: int = 0) -> tuple[int, list[str]]:
        server = socket.create_server((address, port))
        sockets.append(server)
        came: list[str] = []

        def accept() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                came.append(peer[0])
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        return server.getsockname()[1], came

    yield start
    for server in sockets:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def dialer(home: str, names: Names, policy: AddressPolicy = LOOPBACK) -> Dialer:
    return Dialer(home, policy, resolver=names, resolve_seconds=5.0, connect_seconds=0.3)


def reaches(subject: Dialer, host: str) -> bool:
    """Whether the guard lets it pass; the discard port of nobody answers."""
    try:
        subject.dial(host, 9).close()
    except BlockedAddress:
        return False
    except OSError:
        return True
    return True


class TestRebinding:
    def test_the_name_is_resolved_once_per_connection(self, listen) -> None:
        port, _ = listen("127.0.0.1")
        names = Names(index=["127.0.0.1"])
        dialer("index", names).dial("index", port).close()
        assert names.asked == ["index"]

    def test_a_name_that_turns_elsewhere_is_judged_again(self, listen) -> None:
        port, _ = listen("127.0.0.1")
        _, canary = listen("127.0.0.2", port)
        names = Names(index=["127.0.0.1"])
        subject = dialer("index", names)
        subject.dial("index", port).close()
        names.answers["index"] = ["127.0.0.2"]
        with pytest.raises(BlockedAddress):
            subject.dial("index", port)
        assert canary == []

    def test_negative_control_a_policy_that_allows_all_reaches_the_canary(self, listen) -> None:
        port, canary = listen("127.0.0.2")
        names = Names(index=["127.0.0.2"])
        everything = AddressPolicy((ip_network("0.0.0.0/0"),))
        sock = dialer("index", names, everything).dial("index", port)
        assert sock.recv(1) == b""
        sock.close()
        assert canary == ["127.0.0.1"]

    @pytest.mark.parametrize("second", ["127.0.0.2", "::1", "169.254.169.254", "10.0.0.1"])
    def test_one_refused_address_refuses_the_name(self, listen, second: str) -> None:
        port, came = listen("127.0.0.1")
        with pytest.raises(BlockedAddress):
            dialer("index", Names(index=["127.0.0.1", second])).dial("index", port)
        assert came == []

    def test_a_scoped_address_is_refused(self) -> None:
        with pytest.raises(BlockedAddress):
            dialer("index", Names(index=["fe80::1%eth0"])).dial("index", 80)

    def test_a_public_name_that_turned_inwards_is_not_adopted(self) -> None:
        names = Names(index=["198.51.100.7", "8.8.8.8"])
        subject = dialer("index", names, AddressPolicy())
        assert not reaches(subject, "index")
        names.answers["index"] = ["198.51.100.7"]
        assert not reaches(subject, "index")


class TestAdoption:
    """Behind a transparent proxy: what the configured host resolves to is allowed for its connection."""

    def test_the_connections_own_host(self) -> None:
        assert reaches(dialer("index", Names(index=["240.0.0.7"]), AddressPolicy()), "index")

    def test_its_file_hosts_at_the_same_address(self) -> None:
        names = Names(index=["240.0.0.7"], files=["240.0.0.7"])
        assert reaches(dialer("index", names, AddressPolicy()), "files")
        assert names.asked == ["files", "index"]

    @pytest.mark.parametrize("address", ["240.0.0.8", "10.0.0.1", "127.0.0.1", "169.254.169.254", "::1"])
    def test_not_its_file_hosts_elsewhere(self, address: str) -> None:
        names = Names(index=["240.0.0.7"], files=[address])
        assert not reaches(dialer("index", names, AddressPolicy()), "files")

    @pytest.mark.parametrize(
        "address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "64:ff9b::7f00:1"]
    )
    def test_never_loopback_and_never_metadata(self, address: str) -> None:
        assert not reaches(dialer("index", Names(index=[address]), AddressPolicy()), "index")

    def test_not_an_address_written_in_the_base_url(self) -> None:
        assert not reaches(dialer("240.0.0.7", Names(), AddressPolicy()), "240.0.0.7")

    def test_what_passes_anyway_needs_no_second_resolution(self) -> None:
        names = Names(index=["240.0.0.7"], files=["127.0.0.1"])
        subject = dialer("index", names)
        assert reaches(subject, "files")
        assert names.asked == ["files"]


class TestPatience:
    def test_a_hanging_resolver_is_given_up(self) -> None:
        release = threading.Event()

        def hang(_: str) -> list[str]:
            release.wait(30)
            return ["127.0.0.1"]

        subject = Dialer("index", LOOPBACK, resolver=hang, resolve_seconds=0.05)
        with pytest.raises(TimeoutError):
            subject.dial("index", 80)
        release.set()

    def test_an_unknown_name_is_the_resolvers_error(self) -> None:
        with pytest.raises(socket.gaierror):
            dialer("index", Names()).dial("index", 80)

    def test_the_next_address_is_tried_when_one_refuses(self, listen) -> None:
        port, _ = listen("127.0.0.2")
        policy = AddressPolicy((ip_network("127.0.0.0/8"),))
        sock = dialer("index", Names(index=["127.0.0.3", "127.0.0.2"]), policy).dial("index", port)
        assert sock.getpeername()[0] == "127.0.0.2"
        sock.close()
