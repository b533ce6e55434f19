"""The management interface as the command line uses it: one server, one token, errors as one line.

Imports neither the server's packages nor, before the first request, an HTTP library: ``--help`` stays quick.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import click

if TYPE_CHECKING:
    import requests

API = "/api/v1"
CONNECT_SECONDS = 10
READ_SECONDS = 120
MOST_REDIRECTS = 5
DOWNLOAD_BYTES = 256 * 1024
_STDIN = "-"
_SHA256_ETAG = re.compile(r'"sha256-([0-9a-f]{64})"')


class Failed(click.ClickException):
    """The command did not do what it was asked to: one line on stderr, exit code 1."""

    exit_code = 1


class Refused(Failed):
    """The server answered with an error; ``status`` is HTTP's, ``code`` the server's word for it."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unreachable(Failed):
    """No answer, or half of one: trying again may help."""


class Client:
    """Speaks with one server. ``url`` is its base address; ``token`` goes to it and to no other host."""

    def __init__(self, url: str, token: str | None, *, password: tuple[str, str] | None = None) -> None:
        """Check ``url``. ``password`` (user, password) is used where there is no token. Raises UsageError."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise click.UsageError(f"{url!r} is not a server's address: it starts with https:// or http://")
        if "@" in parts.netloc:
            raise click.UsageError("the server's address holds a secret; use ENTREPOT_TOKEN or --token-file for it")
        self.url = url.rstrip("/")
        self._token = token
        self._password = password

    @cached_property
    def _session(self) -> requests.Session:
        import requests

        session = requests.Session()
        # Proxies and CA bundles of the environment count (HTTPS_PROXY, REQUESTS_CA_BUNDLE); a netrc entry for the
        # host must not replace the token, which an auth callable prevents.
        session.auth = self._authorize
        session.headers["Accept"] = "application/json"
        session.headers["User-Agent"] = "entrepot"
        return session

    def _authorize(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            prepared.headers["Authorization"] = f"Bearer {self._token}"
        elif self._password:
            import requests

            # As bytes: requests would encode text as latin-1, and fail on most of the world's passwords.
            user, secret = (part.encode() for part in self._password)
            requests.auth.HTTPBasicAuth(user, secret)(prepared)
        return prepared

    def get(self, *path: str | int, **query: Any) -> Any:
        """The JSON answer of a GET. Raises Failed. Path parts are quoted; query values of None are left out."""
        return self._json(self._send("GET", path, query))

    def send(self, method: str, *path: str | int, body: Any = None, **query: Any) -> Any:
        """The JSON answer of a changing request with a JSON body; None where there is none. Raises Failed."""
        return self._json(self._send(method, path, query, body))

    def send_file(self, method: str, *path: str | int, file: IO[bytes], media_type: str, **query: Any) -> Any:
        """The JSON answer of a request whose body is a file, read as it goes out. Raises Failed."""
        return self._json(self._send(method, path, query, file=(file, media_type)))

    def read(self, *path: str | int, **query: Any) -> tuple[bytes, Mapping[str, str]]:
        """The body and headers of a GET whose answer is not JSON. Raises Failed."""
        response = self._send("GET", path, query)
        return response.content, response.headers

    def download(self, into: IO[bytes], *path: str | int, **query: Any) -> str:
        """Write the body of a GET to ``into`` as it comes; its SHA-256 in hex.

        Raises Failed, also where the server names another SHA-256 in its ETag.
        """
        import requests

        digest = hashlib.sha256()
        with self._send("GET", path, query, streamed=True) as response:
            try:
                for piece in response.iter_content(DOWNLOAD_BYTES):
                    digest.update(piece)
                    into.write(piece)
            except requests.RequestException as error:
                raise Unreachable(f"{self.url} broke off: {_reason(error)}") from error
        promised = _SHA256_ETAG.fullmatch(response.headers.get("ETag", ""))
        if promised is not None and promised[1] != digest.hexdigest():
            raise Failed(f"{self.url} sent something with another SHA-256 than the one it named")
        return digest.hexdigest()

    def events(self, *path: str | int, **query: Any) -> Iterator[tuple[str, str]]:
        """The named events of a stream (HTML Living Standard §9.2): (name, data), until the server ends. Raises Failed."""
        import requests

        response = self._send("GET", path, query, streamed=True)
        name, data = "", ""
        try:
            with response:
                for line in response.iter_lines(chunk_size=None):
                    field, _, value = line.decode().partition(": ")
                    if not line:
                        if name:
                            yield name, data
                        name, data = "", ""
                    elif field == "event":
                        name = value
                    elif field == "data":
                        data = value
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} broke off: {_reason(error)}") from error

    def items(self, *path: str | int, most: int | None = None, **query: Any) -> Iterator[Any]:
        """The entries of a list, page after page, at most ``most``. Raises Failed."""
        seen = 0
        while True:
            page = self.get(*path, **query)
            for item in page["items"]:
                if most is not None and seen >= most:
                    return
                seen += 1
                yield item
            if page.get("next") is None:
                return
            query["after"] = page["next"]

    def _send(
        self,
        method: str,
        path: tuple[str | int, ...],
        query: Mapping[str, Any],
        body: Any = None,
        file: tuple[IO[bytes], str] | None = None,
        *,
        streamed: bool = False,
    ) -> requests.Response:
        address = self.url + API + "".join("/" + quote(str(part), safe="") for part in path)
        asked = {name: value for name, value in query.items() if value is not None}
        if asked:
            address += "?" + urlencode(asked)
        for _ in range(MOST_REDIRECTS):
            response = self._exchange(method, address, body, file, streamed=streamed)
            location = response.headers.get("Location")
            if not response.is_redirect or location is None:
                return response
            address = self._own_address(urljoin(address, location), method)
        raise Failed(f"{self.url} redirects in a circle")

    def _exchange(
        self, method: str, address: str, body: Any, file: tuple[IO[bytes], str] | None, *, streamed: bool
    ) -> requests.Response:
        import requests

        sent = {"json": body} if file is None else {"data": file[0], "headers": {"Content-Type": file[1]}}
        try:
            response = self._session.request(
                method,
                address,
                **sent,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=streamed,
            )
        except requests.exceptions.SSLError as error:
            raise Unreachable(f"the certificate of {self.url} is not trusted: {_reason(error)}") from error
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} cannot be reached: {_reason(error)}") from error
        if response.status_code >= 400:
            raise _refusal(response)
        return response

    def _own_address(self, address: str, method: str) -> str:
        # The token would go along, and a changing request would be repeated where nobody asked for it.
        if urlsplit(address)[:2] != urlsplit(self.url)[:2] or method != "GET":
            raise Failed(f"{self.url} redirects to {address}; give that address as --url if it is right")
        return address

    @staticmethod
    def _json(response: requests.Response) -> Any:
        if response.status_code == 204 or not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise Failed(f"{response.url} did not answer with JSON; is it an Entrepot server?") from error


def _refusal(response: requests.Response) -> Refused:
    detail, code = f"the server answered {response.status_code} {response.reason}", ""
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            problem = response.json()
            detail, code = str(problem["detail"]), str(problem["code"])
            faults = problem.get("faults", ())
            if len(faults) > 1:
                detail = "\n  ".join([detail.partition(": ")[0] + ":", *map(str, faults)])
        except (ValueError, KeyError, TypeError):
            code = ""  # the status line says what there is to say
    return Refused(response.status_code, code, detail)


def _reason(error: Exception) -> str:
    # The innermost reason is the one that helps; the outer ones repeat the address and object ids.
    deepest: BaseException = error
    while (inner := _inner(deepest)) is not None:
        deepest = inner
    return str(deepest).rpartition(": ")[2] or type(deepest).__name__


def _inner(error: BaseException) -> BaseException | None:
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return reason
    return next((argument for argument in error.args if isinstance(argument, BaseException)), None)


def read_token(token_file: str | None, environment: str | None) -> str | None:
    """The token: first line of ``token_file`` (``-`` is stdin), else the environment's. Raises Failed."""
    if token_file is None:
        return environment or None
    try:
        text = sys.stdin.readline() if token_file == _STDIN else Path(token_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"the token cannot be read: {error}") from error
    token = text.partition("\n")[0].strip()
    if not token:
        raise Failed(f"{token_file} holds no token")
    return token


def connection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which server and with which token; the command gets ``url`` and ``token``."""

    @click.option("--url", envvar="ENTREPOT_URL", metavar="URL", help="The server's address [ENTREPOT_URL].")
    @click.option(
        "--token-file", metavar="FILE", help="File whose first line is the token; - for stdin [ENTREPOT_TOKEN]."
    )
    @wraps(function)
    def command(url: str | None, token_file: str | None, **arguments: Any) -> Any:
        import os

        return function(url=url, token=read_token(token_file, os.environ.get("ENTREPOT_TOKEN")), **arguments)

    return command


def needs_server(url: str | None) -> str:
    """The server's address. Raises UsageError where none was given."""
    if not url:
        raise click.UsageError("which server? Set ENTREPOT_URL or give --url")
    return url


def with_client(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``function(client, …)`` a command's callback: adds the connection options and passes the client first."""

    @connection_options
    @wraps(function)
    def command(url: str | None, token: str | None, **arguments: Any) -> Any:
        if not token:
            raise click.UsageError("no token: set ENTREPOT_TOKEN or give --token-file")
        return function(Client(needs_server(url), token), **arguments)

    return command
