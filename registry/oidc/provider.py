"""What the administrator says about an identity provider. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.upstream.guard import AddressPolicy

ALGORITHMS = ("RS256", "PS256", "ES256")
"""Signatures that can be allowed; all of them with a key pair, so that no public key is ever taken for a secret."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider by its name in the settings.

    ``user_claim`` is the claim an account's name is made of; ``groups`` maps values of ``groups_claim`` to groups here.
    ``match_existing`` lets a first sign-in take over the account of that name; without it only an account that nobody
    else has is made (``create_users``), or somebody signed in binds their own.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    label: str = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    user_claim: str = "preferred_username"
    email_domains: tuple[str, ...] = ()
    create_users: bool = False
    new_user_actions: tuple[str, ...] = ("read",)
    match_existing: bool = False
    fresh_without_auth_time: bool = False
    groups_claim: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    ca_bundle: str = ""

    @property
    def button(self) -> str:
        """What stands on its button."""
        return self.label or self.name

    @property
    def source(self) -> str:
        """What memberships of groups from here are called."""
        return f"oidc:{self.name}"
