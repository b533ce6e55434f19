"""Every route says who may use it, through one of these decorators, or the application refuses to start.

Three doors: *client* (package clients: Basic or Bearer), *api* (scripts: Bearer or Basic) and *page* (browsers: the
session cookie). A door reads its own credential only: the API never looks at cookies, so that no page elsewhere can
make a browser call it; pages never look at the Authorization header.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from ipaddress import ip_address
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from registry.access import ANY_PACKAGE, About, Action, check
from registry.errors import Denied, Invalid, Misdirected, Unauthenticated
from registry.http import context
from registry.names import PackageKey, PackageName
from registry.policy.actions import CATALOGUE
from registry.rates import CostClass, principal_of
from registry.repos.admission import Credential
from registry.rulebook import from_address

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

SESSION_COOKIE = "entrepot_session"
SECURE_SESSION_COOKIE = "__Host-entrepot"
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Where to go after signing in: never stored, and anything odd in it means the home page.
_NEXT_FIELD = "next"
_DECLARATION = "entrepot_permission"
_UNENROLLED = "entrepot_before_second_factor"


def credential_sent() -> Credential | None:
    """The credential in the Authorization header, or None. Raises Unauthenticated when it cannot be read."""
    header = request.headers.get("Authorization", "")
    if not header:
        return None
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return Credential("", rest.strip(), _address())
    if scheme.lower() != "basic":
        raise Unauthenticated("use Basic or Bearer authorization")
    try:
        user, colon, secret = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated("the Basic authorization header cannot be read") from error
    if not colon or not secret:
        # pip sends "user:" with an empty password before it asks a keyring: a 401 makes it ask.
        raise Unauthenticated("the Basic authorization header has no password")
    return Credential(user, secret, _address())


def _address() -> str:
    return request.remote_addr or "unknown"


def charge(cost: CostClass) -> None:
    """Count a request of this caller. Raises RateLimited. The doors do it; views only where they cost more than others."""
    who, services = context.identity(), context.services()
    services.rates.spend(cost, principal_of(who.account_id if who else None, _address()), services.clock())


def public(reason: str) -> Callable[[View], View]:
    """Anybody may use this route; ``reason`` says why that is safe."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            context.remember(who=None)
            return view(*args, **kwargs)

        return cast("View", _declare(wrapped, f"public: {reason}"))

    return decorate


def requires(
    action: Action,
    *,
    repository: bool = False,
    domain: bool = False,
    permission: str = "",
    any_package: bool = False,
) -> Callable[[View], View]:
    """API door: the caller may do ``action``; with ``repository``, in the route's ``domain`` and ``repository``.

    With ``domain`` it is decided on the route's ``domain`` as such. ``permission`` is CodeArtifact's name for what the
    route does, which policies and roles speak of; without one it is the usual one of the word. Where the route names a
    package (``format_name`` and ``name``), it is decided on that package. Callers with a token for certain packages come
    through no other, except with ``any_package``: the view then shows them their packages only.
    """
    _check_permission(action, permission)
    where = " on the repository" if repository else " on the domain" if domain else ""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            services = context.services()
            sent, now = credential_sent(), services.clock()
            if repository:
                about = _named_package(kwargs)
                key = about if isinstance(about, PackageKey) else PackageKey("", "", PackageName(""))
                admitted = services.admissions.admit(
                    sent,
                    action,
                    kwargs["domain"],
                    kwargs["repository"],
                    format_name=key.format,
                    namespace=key.namespace,
                    package=key.name,
                    permission=permission,
                    lists=any_package or about is ANY_PACKAGE,
                    address=_address(),
                    now=now,
                )
                context.remember(who=admitted.identity, admitted=admitted)
            else:
                who = services.admissions.identify(sent, now)
                check(who, action, permission=permission, domain=kwargs["domain"] if domain else "")
                context.remember(who=who)
            charge(CostClass.MANAGE)
            return view(*args, **kwargs)

        return cast("View", _declare(wrapped, f"api: {permission or action.value}{where}"))

    return decorate


def _check_permission(action: Action, permission: str) -> None:
    if permission and CATALOGUE.get(permission) != action.value:
        raise RuntimeError(f"permission {permission} is not one of those below {action.value!r}")


def _named_package(variables: Mapping[str, Any]) -> About:
    """The package in an API route, in canonical spelling; for one that cannot be read the view says that it is none."""
    if "/packages/" not in str(request.url_rule):
        return None
    known = context.services().formats.get(variables.get("format_name", ""))
    name, namespace = variables.get("name", ""), request.args.get("namespace", "")
    if known is None or not name:
        return None
    try:
        return known.key(f"{namespace}/{name}" if namespace else name)
    except Invalid:
        return ANY_PACKAGE  # nothing has that name, so that there is nothing to guard


def signed_in_api(view: View) -> View:
    """API door for anybody with a valid credential; what they see or do is decided per object inside, by ``check``."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        services = context.services()
        who = services.admissions.identify(credential_sent(), services.clock())
        if who is None:
            raise Unauthenticated("send a token, or user and password")
        context.remember(who=who)
        charge(CostClass.MANAGE)
        return view(*args, **kwargs)

    return cast("View", _declare(wrapped, "api: signed in"))


def machine(said: str, prove: Callable[[Credential | None], str]) -> Callable[[View], View]:
    """API door for our own programs on other machines, which are no accounts: no user's token opens it.

    ``prove`` raises Unauthenticated or Denied, or says who it is that is to be charged.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            context.remember(who=None)
            services = context.services()
            services.rates.spend(CostClass.MANAGE, prove(credential_sent()), services.clock())
            return view(*args, **kwargs)

        return cast("View", _declare(wrapped, f"machine: {said}"))

    return decorate


def client(
    action: Action,
    *,
    format_name: str,
    package: Callable[[Mapping[str, str]], PackageKey] | None = None,
    permission: str = "",
    or_else: tuple[str, ...] = (),
    names_later: bool = False,
) -> Callable[[View], View]:
    """Client door of a format's routes under ``/{format}/{domain}/{repository}/``.

    ``permission`` is CodeArtifact's name for what the route does. Where only the body tells, ``or_else`` has the others
    that it may be: who has any of them comes in, and the view asks for the one that is wanted (``check_package``).

    Where the route names a package, ``package`` finds it in the route's variables and the admission carries its
    revision. ``names_later`` is for routes whose body names it: who may do ``action`` to some package comes in, and
    what then stores the file asks again.
    """
    for each in (permission, *or_else):
        _check_permission(action, each)
    said = " or ".join((permission or action.value, *or_else))

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            services = context.services()
            key = package(kwargs) if package is not None else PackageKey(format_name, "", PackageName(""))
            admitted = services.admissions.admit(
                credential_sent(),
                action,
                kwargs.pop("domain"),
                kwargs.pop("repository"),
                format_name=key.format,
                namespace=key.namespace,
                package=key.name,
                permission=permission,
                or_else=or_else,
                names_later=names_later,
                lists=True,
                address=_address(),
                now=services.clock(),
            )
            context.remember(who=admitted.identity, admitted=admitted)
            charge(CostClass.READ if action is Action.READ else CostClass.PUBLISH)
            return view(*args, **kwargs)

        return cast("View", _declare(wrapped, f"client: {said} on the repository"))

    return decorate


def check_package(key: PackageKey, permission: str) -> None:
    """Raise Denied unless the caller may do what ``permission`` names to a package of the admitted repository."""
    admission = context.admission()
    check(admission.identity, Action(CATALOGUE[permission]), admission.path, key, permission=permission)


def page(view: View) -> View:
    """Page door for anybody signed in; what they see or do is decided per object inside, by ``check``."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        _open_page(view)
        if context.identity() is None:
            raise Unauthenticated("sign in to see this page")
        return view(*args, **kwargs)

    return cast("View", _declare(wrapped, "page: signed in"))


def open_page(reason: str) -> Callable[[View], View]:
    """Page door that lets strangers in as well (sign-in itself); ``reason`` says why that is safe."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(*args: Any, **kwargs: Any) -> ResponseReturnValue:
            _open_page(view)
            return view(*args, **kwargs)

        return cast("View", _declare(wrapped, f"page: public: {reason}"))

    return decorate


def before_second_factor(view: View) -> View:
    """Beneath a page door: also for who still has to get the second factor that this server asks of everybody."""
    setattr(view, _UNENROLLED, True)
    return view


def cookie_name() -> str:
    """The session cookie's name: with the ``__Host-`` prefix where cookies are Secure (RFC 6265bis §4.1.3.2)."""
    return SECURE_SESSION_COOKIE if context.services().cookie_secure else SESSION_COOKIE


def _open_page(view: Callable[..., ResponseReturnValue]) -> None:
    services = context.services()
    _refuse_strange_host(services.public_url)
    secret = request.cookies.get(cookie_name(), "")
    browser = None
    if secret:
        with services.db.read() as session:
            browser = services.accounts.browser_session(session, secret, services.clock())
    if browser is not None:
        browser = replace(browser, identity=from_address(browser.identity, _address()))
    context.remember(who=browser.identity if browser else None, browser=browser)
    charge(CostClass.MANAGE)
    _refuse_nul(request.args)
    if request.method not in _SAFE_METHODS:
        _refuse_forged(browser.csrf_token if browser else None)
        _refuse_nul(request.form)
    if browser is not None and browser.must_enrol and not hasattr(view, _UNENROLLED):
        abort(redirect(url_for("pages.second_factor"), 303))


def _refuse_strange_host(public_url: str | None) -> None:
    """Refuse pages under a name that is not ours, where it is known which is.

    What somebody else points at this server (DNS rebinding, a forged Host behind a proxy) must neither get a session nor
    be written into anything. An address is no name: who looks at the server from its own machine asks for one.
    """
    if public_url is None:
        return
    host = urlsplit(f"//{request.host}").hostname or ""
    if request.host.lower() == urlsplit(public_url).netloc.lower() or host == "localhost" or _is_address(host):
        return
    raise Misdirected(f"this server is known as {public_url}, not by the name that was asked for")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_nul(values: MultiDict[str, str]) -> None:
    """Refuse text that PostgreSQL cannot hold; paths are looked at by ``registry.http.guard``, JSON by its shapes."""
    if any("\0" in value for name, value in values.items(multi=True) if name != _NEXT_FIELD):
        raise Invalid("a field holds a NUL character")


def _refuse_forged(expected: str | None) -> None:
    """Refuse a request another site made the browser send: by where it says it comes from, and by the form's token."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    own = {request.host_url.rstrip("/"), (context.services().public_url or "").rstrip("/")}
    if site not in {"same-origin", "none"} or (origin is not None and origin.rstrip("/") not in own):
        raise Denied("this request came from another site")
    if expected is None:
        return  # signing in: there is no session yet, and the origin check above stands alone
    sent = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(sent, expected):
        raise Denied("the form is too old; load the page again and repeat")


def _declare(view: Callable[..., ResponseReturnValue], permission: str) -> Any:
    setattr(view, _DECLARATION, permission)
    return view


def permissions(app: Flask) -> dict[str, str]:
    """Endpoint → declared permission, for all routes. Raises RuntimeError for a route that declares none."""
    declared = {}
    for rule in app.url_map.iter_rules():
        permission = cast("str | None", getattr(app.view_functions[rule.endpoint], _DECLARATION, None))
        if permission is None:
            raise RuntimeError(f"route {rule.rule} ({rule.endpoint}) declares no permission")
        declared[rule.endpoint] = permission
    return declared
