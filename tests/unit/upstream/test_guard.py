"""C1, C3: which addresses and URLs are refused: what has fooled other servers, and what ``is_global`` lets pass."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.upstream.guard import (
    AddressPolicy,
    BlockedAddress,
    Origin,
    Scope,
    adoptable,
    check_url,
    parse_url,
    scope_of,
    separate_credential,
)

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))

NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    # the same behind a translator or tunnel
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::a9fe:a9fe",
    "2a00:1450::5efe:a9fe:a9fe",
    "2001:0:a9fe:a9fe::1",
]
LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1"]
LOOPBACK_CARRIED = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "::127.0.0.1"]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12::1",
]
RESERVED = [
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "2001:db8::1",
    "2001:2::1",
    "3fff::1",
    "fec0::1",
    "100::1",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "5f00::1",
]
GLOBAL = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::1111",
    "2a04:4e42::223",
]


@pytest.mark.parametrize("address", NEVER)
def test_refused_whatever_is_allowed(address: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressPolicy(EVERYTHING, allow_private=True).check(address, frozenset({ip_address(address)}))


@pytest.mark.parametrize("address", LOOPBACK + LOOPBACK_CARRIED)
def test_loopback_needs_an_allowed_network(address: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressPolicy(allow_private=True).check(address, frozenset({ip_address(address)}))
    AddressPolicy(EVERYTHING).check(address)  # the negative control


@pytest.mark.parametrize("address", LOOPBACK_CARRIED)
def test_allowing_the_translator_does_not_allow_loopback_behind_it(address: str) -> None:
    carriers = tuple(
        ip_network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96")
    )
    with pytest.raises(BlockedAddress):
        AddressPolicy(carriers).check(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_pass_only_when_allowed(address: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressPolicy().check(address)
    AddressPolicy(allow_private=True).check(address)
    AddressPolicy((ip_network(address),)).check(address)
    AddressPolicy().check(address, frozenset({ip_address(address)}))


@pytest.mark.parametrize("address", RESERVED)
def test_reserved_addresses_pass_only_by_network_or_adoption(address: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressPolicy(allow_private=True).check(address)
    AddressPolicy((ip_network(address),)).check(address)
    AddressPolicy().check(address, frozenset({ip_address(address)}))


@pytest.mark.parametrize("address", GLOBAL)
def test_global_addresses_pass(address: str) -> None:
    AddressPolicy().check(address)


@pytest.mark.parametrize("text", ["", "example.org", "127.1", "0x7f000001", "fe80::1%eth0x y", "8.8.8.8/8"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BlockedAddress):
        AddressPolicy(EVERYTHING).check(text)


@given(st.ip_addresses())
def test_nothing_that_ipaddress_calls_inside_passes(address) -> None:
    flags = ("private", "loopback", "link_local", "multicast", "unspecified", "reserved")
    if scope_of(address) is Scope.GLOBAL:
        assert [flag for flag in flags if getattr(address, f"is_{flag}")] == []


class TestAdoption:
    def test_addresses_of_a_transparent_proxy_are_adopted(self) -> None:
        given_addresses = {ip_address("203.0.113.7"), ip_address("2001:db8::7")}
        assert adoptable(given_addresses) == given_addresses

    @pytest.mark.parametrize(
        "other", ["8.8.8.8", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0"]
    )
    def test_one_other_address_spoils_the_answer(self, other: str) -> None:
        assert adoptable([ip_address("203.0.113.7"), ip_address(other)]) == frozenset()

    def test_an_adopted_translator_address_does_not_open_what_is_behind_it(self) -> None:
        carrier = ip_address("64:ff9b::a00:1")
        with pytest.raises(BlockedAddress):
            AddressPolicy().check(carrier, adoptable([carrier]))


class TestNames:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost.",
            "LOCALHOST",
            "localhost.localdomain",
            "a.localhost",
            "localhost6",
            "nexus.internal",
            "printer.local",
        ],
    )
    def test_names_of_the_inside_need_an_opened_inside(self, host: str) -> None:
        with pytest.raises(BlockedAddress):
            check_url(f"http://{host}/", AddressPolicy())
        check_url(f"http://{host}/", AddressPolicy(allow_private=True))

    @pytest.mark.parametrize(
        "host",
        [
            "metadata",
            "metadata.google.internal",
            "metadata.google.internal.",
            "instance-data",
            "instance-data.ec2.internal",
        ],
    )
    def test_metadata_names_are_always_refused(self, host: str) -> None:
        with pytest.raises(BlockedAddress):
            check_url(f"http://{host}/", AddressPolicy(EVERYTHING, allow_private=True))

    @pytest.mark.parametrize("host", ["local.example.org", "internal.example.org", "mylocalhost.example", "locals"])
    def test_other_names_pass(self, host: str) -> None:
        assert check_url(f"https://{host}/x", AddressPolicy()).origin.host == host


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "file:/etc/passwd",
            "file:///etc/passwd",
            "FILE:/etc/passwd",
            "ftp://example.org/",
            "data:text/html,x",
            "gopher://example.org/",
            "jar:http://example.org/!/",
            "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
            "http:/example.org",
            "http:example.org",
            "//example.org/",
            "example.org",
            "",
            " http://example.org/",
            "\thttp://example.org/",
            "http://example.org/\r\nX: y",
            "http://example.org/a b",
            "http://example.org/\x00",
            "http://example.org\\@127.0.0.1/",
            "http:\\\\example.org/",
            "http://user@example.org/",
            "http://user:password@example.org/",
            "http://example.org@127.0.0.1/",
            "http://example.org:0/",
            "http://example.org:65536/",
            "http://example.org:x/",
            "http://example.org:80:80/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://exa%6dple.org/",
            "http://exam ple.org/",
            "http:///x",
            "http://-a.example/",
            "http://a..example/",
            "http://" + "a" * 64 + ".example/",
            "http://example.org/" + "a" * 9000,
        ],
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(BlockedAddress):
            parse_url(url)

    @pytest.mark.parametrize(
        "host",
        [
            "2130706433",
            "0x7f000001",
            "127.1",
            "0",
            "0177.0.0.1",
            "127.0.0.0x1",
            "1.2.3.256",
            "010.0.0.1",
            "a.b.1",
            "①②⑦.⓪.⓪.①:80x",
        ],
    )
    def test_numbers_that_resolvers_read_as_addresses_are_refused(self, host: str) -> None:
        with pytest.raises(BlockedAddress):
            parse_url(f"http://{host}/")

    @pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "127.0.0.1."])
    def test_unicode_digits_are_folded_before_the_check(self, host: str) -> None:
        assert parse_url(f"http://{host}/").origin.host == "127.0.0.1"
        with pytest.raises(BlockedAddress):
            check_url(f"http://{host}/", AddressPolicy())

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://10.0.0.1/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://203.0.113.5/",
        ],
    )
    def test_addresses_written_in_the_url_are_judged_when_it_is_saved(self, url: str) -> None:
        with pytest.raises(BlockedAddress):
            check_url(url, AddressPolicy())

    @pytest.mark.parametrize(
        ("url", "origin", "target"),
        [
            ("https://Example.ORG", Origin("https", "example.org", 443), "/"),
            ("HTTP://example.org:8080/simple/?a=b#frag", Origin("http", "example.org", 8080), "/simple/?a=b"),
            ("https://example.org./x", Origin("https", "example.org", 443), "/x"),
            ("https://bücher.example/ü%C3%BC", Origin("https", "xn--bcher-kva.example", 443), "/%C3%BC%C3%BC"),
            ("https://example.org?q", Origin("https", "example.org", 443), "/?q"),
            ("http://[2606:4700:0::1111]:81/", Origin("http", "2606:4700::1111", 81), "/"),
            ("https://example.org/@s%2fname/+f/a~b", Origin("https", "example.org", 443), "/@s%2fname/+f/a~b"),
            ("https://a_b.example/", Origin("https", "a_b.example", 443), "/"),
        ],
    )
    def test_parsed_once_for_all(self, url: str, origin: Origin, target: str) -> None:
        parsed = parse_url(url)
        assert (parsed.origin, parsed.target) == (origin, target)
        assert parse_url(str(parsed)) == parsed

    def test_what_is_shown_has_no_query(self) -> None:
        url = parse_url("https://example.org/files/a%2Bb-1.0.whl?X-Signature=secret")
        assert url.without_query == "https://example.org/files/a%2Bb-1.0.whl"
        assert url.filename == "a+b-1.0.whl"

    def test_authority_names_the_port_only_when_it_is_unusual(self) -> None:
        assert parse_url("https://example.org:443/").origin.authority == "example.org"
        assert parse_url("http://[2606:4700::1]:8080/").origin.authority == "[2606:4700::1]:8080"

    def test_a_clients_configuration_may_hold_the_credential_in_the_url(self) -> None:
        assert separate_credential("https://user:p%40ss@example.org/simple/") == (
            "https://example.org/simple/",
            ("user", "p@ss"),
        )
        assert separate_credential("https://example.org/simple/@x") == ("https://example.org/simple/@x", None)
