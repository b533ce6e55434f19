"""The conversation with identity providers: where to send a browser, and what its return is worth.

Everything goes through the client for upstreams (``registry.upstream.client``): vetted addresses, bounded waits and
sizes, no proxies of the environment. Endpoints come from the issuer's own discovery document alone, which has to name
that issuer and may not be redirected.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from joserfc.jwk import KeySet

from registry.errors import NotFound, Unauthenticated, UpstreamUnavailable
from registry.oidc import id_tokens
from registry.oidc.provider import Provider
from registry.upstream.answers import Found, Upstream
from registry.upstream.client import UpstreamClient
from registry.upstream.guard import BlockedAddress, parse_url

DISCOVERY = "/.well-known/openid-configuration"
LARGEST_DOCUMENT_BYTES = 256 * 1024
DISCOVERY_SECONDS = 3600.0
KEYS_SECONDS = 3600.0
SOONEST_KEYS_SECONDS = 60.0
EXCHANGE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What a provider's discovery document says (OpenID Connect Discovery §3)."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    posts_secret: bool
    says_issuer: bool


@dataclass
class _Known:
    endpoints: Endpoints | None = None
    endpoints_until: float = 0.0
    keys: KeySet | None = None
    keys_at: float = 0.0


class Relying:
    """The server as relying party of its providers. One per process; used by many threads."""

    def __init__(self, providers: Sequence[Provider], client: UpstreamClient, base_url: str) -> None:
        self.providers: Mapping[str, Provider] = {provider.name: provider for provider in providers}
        self._numbers = {provider.name: 3 * number for number, provider in enumerate(providers)}
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {provider.name: _Known() for provider in providers}

    def provider(self, name: str) -> Provider:
        """The provider of that name. Raises NotFound."""
        if name not in self.providers:
            raise NotFound("identity provider", name)
        return self.providers[name]

    def return_address(self, provider: Provider) -> str:
        """Where the provider sends browsers back to: one address for each, so that none answers for another."""
        return f"{self._base_url}/sign-in/with/{provider.name}/return"

    def authorization_url(self, provider: Provider, *, state: str, nonce: str, verifier: str, fresh: bool) -> str:
        """Where to send the browser (RFC 6749 §4.1.1, RFC 7636 §4.3). Raises UpstreamUnavailable.

        ``fresh`` asks the provider to have the person sign in anew.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self.return_address(provider),
            "scope": " ".join(provider.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if fresh:
            question |= {"prompt": "login", "max_age": "0"}
        address = self._endpoints(provider).authorization
        return f"{address}{'&' if '?' in address else '?'}{urlencode(question)}"

    def claims(
        self, provider: Provider, code: str, *, nonce: str, verifier: str, said_issuer: str | None, now: datetime
    ) -> dict[str, Any]:
        """Who came back with ``code``: the checked claims of the ID token, with those of userinfo where some lack.

        ``said_issuer`` is the answer's ``iss`` (RFC 9207). Raises Unauthenticated and UpstreamUnavailable.
        """
        endpoints = self._endpoints(provider)
        if said_issuer != provider.issuer and (said_issuer is not None or endpoints.says_issuer):
            raise Unauthenticated("the answer is from another identity provider")
        answer = self._exchange(provider, endpoints, code, verifier)
        claims = self._checked(provider, answer.get("id_token"), nonce, now)
        wanted = {provider.user_claim, provider.groups_claim} - {""}
        if provider.email_domains or provider.user_claim == "email":
            wanted |= {"email", "email_verified"}
        if endpoints.userinfo and not wanted <= claims.keys():
            claims = {**self._userinfo(provider, endpoints, answer.get("access_token"), claims["sub"]), **claims}
        return claims

    def _checked(self, provider: Provider, token: Any, nonce: str, now: datetime) -> dict[str, Any]:
        try:
            return id_tokens.check(token, self._keys(provider), provider, nonce, now)
        except id_tokens.UnknownKey:
            return id_tokens.check(token, self._keys(provider, again=True), provider, nonce, now)

    def _exchange(self, provider: Provider, endpoints: Endpoints, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.return_address(provider),
            "code_verifier": verifier,
        }
        pair = None
        if endpoints.posts_secret or not provider.client_secret:
            form["client_id"] = provider.client_id
            if provider.client_secret:
                form["client_secret"] = provider.client_secret
        else:
            # RFC 6749 §2.3.1: both are form-encoded before they become Basic.
            pair = quote(provider.client_id, safe=""), quote(provider.client_secret, safe="")
        upstream = self._upstream(provider, endpoints.token, 1, credential=pair)
        answer = self._client.post_document(
            upstream,
            endpoints.token,
            urlencode(form).encode(),
            accept="application/json",
            seconds=EXCHANGE_SECONDS,
            limit_bytes=LARGEST_DOCUMENT_BYTES,
            content_type="application/x-www-form-urlencoded",
        )
        return _object(answer, "token")

    def _userinfo(self, provider: Provider, endpoints: Endpoints, access_token: Any, subject: str) -> dict[str, Any]:
        if not isinstance(access_token, str) or not access_token.isascii() or not access_token.isprintable():
            raise Unauthenticated("the identity provider's answer has no access token")
        upstream = self._upstream(provider, endpoints.userinfo, 2, token=access_token)
        said = self._document(upstream, endpoints.userinfo)
        if said.get("sub") != subject:  # OpenID Connect Core §5.3.2
            raise Unauthenticated("the identity provider tells about somebody else than its token")
        return said

    def _endpoints(self, provider: Provider) -> Endpoints:
        known = self._known[provider.name]
        with self._lock:
            if known.endpoints is not None and time.monotonic() < known.endpoints_until:
                return known.endpoints
        url = provider.issuer.rstrip("/") + DISCOVERY
        document = self._document(self._upstream(provider, provider.issuer, 0), url)
        if document.get("issuer") != provider.issuer:
            raise UpstreamUnavailable(
                f"the identity provider {provider.name} calls itself otherwise than it is configured"
            )
        endpoints = _endpoints(document, provider)
        with self._lock:
            known.endpoints, known.endpoints_until = endpoints, time.monotonic() + DISCOVERY_SECONDS
        return endpoints

    def _keys(self, provider: Provider, *, again: bool = False) -> KeySet:
        known = self._known[provider.name]
        with self._lock:
            age = time.monotonic() - known.keys_at
            if known.keys is not None and age < (SOONEST_KEYS_SECONDS if again else KEYS_SECONDS):
                return known.keys
        keys = id_tokens.usable_keys(
            self._document(self._upstream(provider, provider.issuer, 0), self._endpoints(provider).keys)
        )
        with self._lock:
            known.keys, known.keys_at = keys, time.monotonic()
        return keys

    def _document(self, upstream: Upstream, url: str) -> dict[str, Any]:
        answer = self._client.get_document(upstream, url, accept="application/json", limit_bytes=LARGEST_DOCUMENT_BYTES)
        if isinstance(answer, Found) and answer.final_url != str(parse_url(url)).partition("?")[0]:
            raise UpstreamUnavailable("the identity provider redirects what it has to say itself")
        return _object(answer, "discovery, keys or userinfo")

    def _upstream(
        self,
        provider: Provider,
        base_url: str,
        number: int,
        *,
        credential: tuple[str, str] | None = None,
        token: str | None = None,
    ) -> Upstream:
        return Upstream(
            self._numbers[provider.name] + number,
            base_url,
            provider.policy,
            credential,
            provider.ca_bundle or None,
            token,
        )


def _endpoints(document: Mapping[str, Any], provider: Provider) -> Endpoints:
    found = {}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
        value = document.get(name, "")
        if value == "" and name == "userinfo_endpoint":
            found[name] = ""
            continue
        try:
            url = parse_url(value if isinstance(value, str) else "")
        except BlockedAddress:
            raise UpstreamUnavailable(f"the identity provider {provider.name} names no usable {name}") from None
        if url.origin.scheme == "http" and provider.issuer.startswith("https:"):
            raise UpstreamUnavailable(f"the {name} of the identity provider {provider.name} is without TLS")
        found[name] = str(url)
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Endpoints(
        found["authorization_endpoint"],
        found["token_endpoint"],
        found["jwks_uri"],
        found["userinfo_endpoint"],
        isinstance(methods, list) and "client_secret_basic" not in methods,
        document.get("authorization_response_iss_parameter_supported") is True,
    )


def _object(answer: Any, what: str) -> dict[str, Any]:
    if isinstance(answer, Found):
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            return said
    raise UpstreamUnavailable(f"the identity provider's answer ({what}) is not usable")
