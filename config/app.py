"""The web application: blueprints mounted, errors answered, permissions checked. Nothing else."""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from config import wiring
from config.settings import Settings
from hooks import api as hooks_api
from hooks import pages as hooks_pages
from hooks.api.idle_polls import IdlePolls
from hooks.services import HookServices
from registry import api, formats, pages
from registry.http import auth, context, guard, headers, health, problems
from registry.http.rules import LazyRule
from registry.services import Services


def import_all() -> None:
    """Import what an application is made of: for a process whose forks will make one each."""
    formats.import_all()


def create_app(
    settings: Settings, services: Services | None = None, hook_services: HookServices | None = None
) -> Flask:
    """Build the application. Raises RuntimeError when a route declares no permission."""
    services = services or wiring.services(settings)
    hook_services = hook_services or wiring.hook_services(services, settings)
    app = Flask("entrepot", static_folder=None, template_folder=None)
    app.debug = False  # whatever FLASK_DEBUG says: nothing here shows a trace, or runs a debugger
    app.url_rule_class = LazyRule
    # Path rules are ours: no redirect may hide a doubled slash, and uploads must never be redirected.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = None  # each reader of a body has its own limit, counted while reading
    context.attach(app, services)
    for name in services.formats:
        app.register_blueprint(formats.blueprint(name, services), url_prefix=f"/{name}/<domain>/<repository>")
    app.register_blueprint(api.blueprint(), url_prefix="/api/v1")
    app.register_blueprint(hooks_api.blueprint(hook_services), url_prefix="/api/v1")
    app.register_blueprint(hooks_api.runner_protocol(hook_services), url_prefix="/api/v1")
    app.register_blueprint(hooks_api.agent_protocol(hook_services), url_prefix="/api/v1")
    app.register_blueprint(hooks_api.push_receivers(hook_services), url_prefix="/hooks/v1")
    app.register_blueprint(hooks_api.pipeline_receivers(hook_services), url_prefix="/hooks/v1/pipelines")
    app.register_blueprint(hooks_api.metrics(hook_services))
    app.register_blueprint(pages.blueprint())
    app.register_blueprint(hooks_pages.blueprint(hook_services))
    app.register_blueprint(health.blueprint())
    headers.register(app)
    problems.register(app, pages.render_page)
    auth.permissions(app)
    app.wsgi_app = IdlePolls(app.wsgi_app, services, hook_services)  # type: ignore[method-assign]
    app.wsgi_app = guard.RequestGuard(app.wsgi_app)  # type: ignore[method-assign]
    if settings.server.trusted_proxy_hops:
        hops = settings.server.trusted_proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, hops, hops, hops, hops, hops)  # type: ignore[method-assign]
    return app
