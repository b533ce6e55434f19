"""Which URLs and addresses the server may fetch from (server-side request forgery). Pure: resolves and dials nothing.

The check is made on the address that is dialled, never on a name alone, and not with ``ipaddress.is_global``: that is
true for NAT64 and 6to4 forms of 127.0.0.1, for 192.0.0.192 (a metadata service) and for multicast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, unquote

from registry.errors import Invalid

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

MAX_URL_LENGTH = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}


class BlockedAddress(Invalid):
    """The URL or address is one the server does not talk to. ``rule`` names it and says why."""

    code = "blocked_address"


# --- addresses -------------------------------------------------------------------------------------------------------


class Scope(Enum):
    """How far an address reaches, and with that who may permit it."""

    GLOBAL = "global"  # always permitted
    PRIVATE = "private"  # ``allow_private``, an allowed network, or adoption
    RESERVED = "reserved"  # documentation, benchmarking, tunnels, unassigned: an allowed network, or adoption
    LOOPBACK = "loopback"  # an allowed network only
    FORBIDDEN = "forbidden"  # nothing permits it


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


# Link-local, "this host", multicast and broadcast, and the metadata services of the clouds that are not link-local:
# what is read there (credentials of the machine) can never be a package.
_FORBIDDEN = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "::/128",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
)
_LOOPBACK = _networks("127.0.0.0/8", "::1/128")
_PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_RESERVED = _networks(
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
)
# IPv6 is an allow-list: only this block is assigned for global unicast (RFC 4291 section 2.4 and IANA's registry).
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
# Addresses that carry an IPv4 address in their last 32 bits: mapped, compatible, NAT64 (RFC 6052), local NAT64.
_CARRIERS = (
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
)


def _within(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def scope_of(address: IPAddress) -> Scope:
    """The scope of the address itself, without regard to another one that it may carry."""
    if _within(address, _FORBIDDEN):
        return Scope.FORBIDDEN
    if _within(address, _LOOPBACK):
        return Scope.LOOPBACK
    if _within(address, _PRIVATE):
        return Scope.PRIVATE
    if _within(address, _RESERVED) or (isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST_6):
        return Scope.RESERVED
    return Scope.GLOBAL


def carried_addresses(address: IPAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses a translator or tunnel may deliver to when ``address`` is dialled; usually none."""
    if isinstance(address, IPv4Address) or _within(address, _LOOPBACK):
        return ()
    carried: list[IPv4Address] = []
    if any(address in network for network in _CARRIERS):
        carried.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address.sixtofour is not None:
        carried.append(address.sixtofour)
    if address.teredo is not None:
        carried.extend(address.teredo)
    # ISATAP (RFC 5214 section 6.1): the interface identifier is 0000:5efe or 0200:5efe, then the IPv4 address.
    if (int(address) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE:
        carried.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return tuple(carried)


def adoptable(addresses: Iterable[IPAddress]) -> frozenset[IPAddress]:
    """Addresses that a configured connection's own host may vouch for by resolving to them.

    Behind a site's transparent proxy the names of public registries resolve to addresses that are not global; a guard
    that knows only "global or refused" would cut the server off. Nothing is adopted from an answer that mixes global
    and other addresses (that is what a rebinding answer looks like), and never loopback or what is forbidden.
    """
    given = frozenset(addresses)
    if all(scope_of(address) in {Scope.PRIVATE, Scope.RESERVED} for address in given):
        return given
    return frozenset()


_METADATA_NAMES = re.compile(r"metadata|metadata\.google\.internal|metadata\.goog|instance-data(\..*)?")
_INSIDE_NAMES = re.compile(r"localhost.*|(.*\.)?(localhost|localdomain|internal|local)")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What an administrator permits one connection beyond global addresses.

    ``allowed_networks`` may name any network, loopback too (an internal mirror, a test); ``allow_private`` stands for
    RFC 1918, RFC 6598 and unique local addresses. Link-local, metadata, multicast and unspecified addresses stay
    refused whatever stands here.
    """

    allowed_networks: tuple[IPNetwork, ...] = ()
    allow_private: bool = False

    def check(self, address: str | IPAddress, adopted: frozenset[IPAddress] = frozenset()) -> None:
        """Refuse an address to be dialled; ``adopted`` comes from ``adoptable``. Raises BlockedAddress.

        An address that carries another one passes only if both pass.
        """
        try:
            dialled = ip_address(address)
        except ValueError:
            raise BlockedAddress(f"{str(address)[:80]!r} is not an IP address") from None
        for face in (dialled, *carried_addresses(dialled)):
            if not self._permits(face, adopted):
                raise BlockedAddress(f"{dialled} is a {scope_of(face).value} address: not allowed for this connection")

    def check_host(self, host: str) -> None:
        """Refuse a host by its name, or by its address if it is one. Raises BlockedAddress.

        Names of the inside are refused unless the administrator opened the inside at all; then their addresses decide.
        """
        if _METADATA_NAMES.fullmatch(host):
            raise BlockedAddress(f"{host!r} is a metadata service")
        literal = literal_address(host)
        if literal is not None:
            self.check(literal)
        elif _INSIDE_NAMES.fullmatch(host) and not (self.allow_private or self.allowed_networks):
            raise BlockedAddress(f"{host!r} is a name of the inside: not allowed for this connection")

    def _permits(self, address: IPAddress, adopted: frozenset[IPAddress]) -> bool:
        scope = scope_of(address)
        if scope in {Scope.GLOBAL, Scope.FORBIDDEN}:
            return scope is Scope.GLOBAL
        if _within(address, self.allowed_networks):
            return True
        if scope is Scope.LOOPBACK:
            return False
        return address in adopted or (scope is Scope.PRIVATE and self.allow_private)


# --- URLs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower-case ASCII, no brackets, no trailing dot) and port: credentials belong to exactly one."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host field: brackets around IPv6, the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class WebUrl:
    """A URL after its one parse. ``target`` is path and query, percent-encoded ASCII; a fragment is dropped."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin.scheme}://{self.origin.authority}{self.target}"

    @property
    def without_query(self) -> str:
        """For rows, logs and messages: signed queries are credentials."""
        return str(self).partition("?")[0]

    @property
    def filename(self) -> str:
        """The last segment of the path, decoded once; may be empty."""
        return unquote(self.target.partition("?")[0].rpartition("/")[2])


# RFC 3986 appendix B narrowed to what we fetch: "http:/x", "file:", "data:" and leading blanks do not match.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?", re.IGNORECASE
)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]@%]+))(?::(?P<port>[0-9]{1,5}))?")
# Blanks and controls would end a request line; some parsers read a backslash as a slash and so see another host.
_NEVER_IN_URL = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
# A name whose last label is a number is an IPv4 address to every resolver (127.1, 0x7f000001, 2130706433).
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)")
_KEEP_PATH = "/%:@!$&'()*+,;=~[]"
_KEEP_QUERY = _KEEP_PATH + "?"


def parse_url(text: str) -> WebUrl:
    """Parse an absolute http or https URL; nothing else in the product parses it again. Raises BlockedAddress."""
    if len(text) > MAX_URL_LENGTH:
        raise BlockedAddress(f"the URL is longer than {MAX_URL_LENGTH} characters")
    match = _URL.fullmatch(text)
    if match is None or _NEVER_IN_URL.search(text):
        raise BlockedAddress("the URL must be http://… or https://…, without blanks and backslashes")
    if "@" in match["authority"]:
        raise BlockedAddress("the URL must not hold a user name or password")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise BlockedAddress("the URL's host or port cannot be read")
    scheme = match["scheme"].lower()
    port = int(authority["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise BlockedAddress(f"port {port} does not exist")
    host = _host(authority["v6"], authority["name"])
    path = quote(match["path"] or "/", safe=_KEEP_PATH)
    query = quote(match["query"] or "", safe=_KEEP_QUERY)
    return WebUrl(Origin(scheme, host, port), path + query)


def check_url(text: str, policy: AddressPolicy) -> WebUrl:
    """What can be said when a connection is saved, before anything is resolved. Raises BlockedAddress."""
    url = parse_url(text)
    policy.check_host(url.origin.host)
    return url


def separate_credential(text: str) -> tuple[str, tuple[str, str] | None]:
    """Take ``user:password@`` out of a URL that a client's own configuration holds; checks nothing else."""
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if not (separator and at):
        return text, None
    user, _, password = userinfo.partition(":")
    return f"{scheme}://{host}{slash}{path}", (unquote(user), unquote(password))


def literal_address(host: str) -> IPAddress | None:
    """The address a host *is*; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _host(v6: str | None, name: str | None) -> str:
    try:
        if v6 is not None:
            return str(IPv6Address(v6))
        # Nameprep folds full-width and circled digits, so that what is checked below is what would be resolved.
        host = (name or "").encode("idna").decode("ascii").lower().removesuffix(".")
        if _ENDS_IN_NUMBER.fullmatch(host):
            return str(IPv4Address(host))
    except ValueError:
        raise BlockedAddress("the URL's host is not a name or a plainly written address") from None
    if not _NAME.fullmatch(host):
        raise BlockedAddress("the URL's host is not a valid name")
    return host
