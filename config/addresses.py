"""Where this server is: which URLs lead to it, what it says of itself, and where the running one can be found."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from config.settings import Settings, host_and_port

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ANY_PORT = 9  # of a datagram that is never sent


def own_addresses(settings: Settings) -> Callable[[str], bool]:
    """Give a test for URLs: whether host and port are those of ``server.public_url`` or of ``server.bind``.

    A server that listens on a loopback address, or on all addresses, is behind every loopback name at that port; one
    that listens on all is behind the machine's own name and addresses, too. No name is looked up in the DNS.
    """
    bound_host, bound_port = host_and_port(settings.server.bind)
    everywhere = _is_everywhere(bound_host)

    def is_own(url: str) -> bool:
        place = _place(url)
        if place is None:
            return False
        host, port = place
        if place == _place(settings.server.public_url):
            return True
        if port != bound_port:
            return False
        if host == bound_host.lower():
            return True
        if _is_loopback(host) or _is_everywhere(host):
            return everywhere or _is_loopback(bound_host)
        return everywhere and (host == socket.gethostname().lower() or _is_of_this_machine(host))

    return is_own


def announcement(settings: Settings, secret: str | None) -> list[str]:
    """What ``serve`` prints once it answers; ``secret`` is that of a one-time sign-in, if there is one."""
    lines = [f"Entrepot serves {settings.base_url}/ from {settings.data}"]
    if secret is not None:
        lines.append(f"Sign in once as admin, within a day: {settings.base_url}/setup?code={secret}")
    if settings.needs_public_url:
        lines.append(
            f"It listens on all addresses of this machine ({settings.server.bind}): "
            "set server.public_url to the one that people and clients use"
        )
    return lines


@contextmanager
def told(settings: Settings) -> Iterator[None]:
    """While the block runs, commands on the data directory find the address of this server, whatever theirs would be."""
    path = _address_file(settings)
    beside = path.with_suffix(".new")
    beside.write_text(settings.base_url + "\n", "utf-8")
    beside.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def served_at(settings: Settings) -> str:
    """The base URL of the server that uses the data directory; what the settings say when none has told its own."""
    try:
        return _address_file(settings).read_text("utf-8").strip() or settings.base_url
    except OSError:
        return settings.base_url


def _address_file(settings: Settings) -> Path:
    return settings.data / "run" / "address"


def _place(url: str) -> tuple[str, int] | None:
    """Host, in lower case, and port of a URL; None where it has none or cannot be read."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname.rstrip("."), port) if parts.hostname and port else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")  # RFC 6761, 6.3


def _is_everywhere(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_of_this_machine(host: str) -> bool:
    """Whether an address literal is one of this machine's: what is sent there would come from there."""
    try:
        address = ip_address(host)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, _ANY_PORT))  # chooses a route and a source address, and sends nothing
            return bool(ip_address(probe.getsockname()[0]) == address)
    except (ValueError, OSError):
        return False
