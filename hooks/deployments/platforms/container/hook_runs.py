"""Hooks of an appspec: a command in a container of the new image, beside the new task set and on its network; or a webhook.

The container is known by its event, and by how often that was begun anew after a failure. It stays until the deployment
is over, so that asking again never runs it again.
"""

from __future__ import annotations

from hooks.deployments.hook_calls import HOOK_SECONDS, ask
from hooks.deployments.outcomes import ErrorCode, EventResult
from hooks.deployments.platform import Later, retries_of
from hooks.deployments.platforms.container.group import HookCommand, HookWebhook
from hooks.deployments.platforms.container.host import Container
from hooks.deployments.platforms.container.sets import (
    DEPLOYMENT,
    GROUP,
    HOOK,
    KIND,
    PREFIX,
    common_labels,
    limits_of,
    options_of,
)
from hooks.deployments.platforms.container.work import Work

EVENT = f"{PREFIX}event"


def run_hook(work: Work) -> EventResult | Later:
    """Start the hook of an event, or look how far it is."""
    name = work.spec.hooks.get(work.event)
    if name is None:
        return work.done("there is no hook")
    hook = work.group.hook(name)
    if hook is None:
        return work.failed(f"{name} is none of the group's hooks", ErrorCode.SCRIPT_MISSING)
    if isinstance(hook, HookWebhook):
        seconds = min(hook.timeout_seconds, HOOK_SECONDS)
        return ask(
            work.about, work.target, work.event, hook=name, webhook=hook.webhook, seconds=seconds, now=work.seconds
        )
    found = _of_event(work)
    state = work.host.state(found.id) if found else None
    until = work.progress.get("until", work.seconds + min(hook.timeout_seconds, work.pace.hook))
    if found is None or state is None or not state.was_started:
        container = found.id if found else _create(work, hook)
        work.host.start(container)
        return work.later(min(1.0, work.pace.poll), f"hook {name} runs", until=until)
    if state.is_running:
        if work.seconds < until:
            return work.later(work.pace.poll, f"hook {name} runs", until=until)
        log = work.host.log(found.id)
        work.host.stop(found.id)
        return work.failed(f"hook {name} takes longer than it may", ErrorCode.SCRIPT_TIMED_OUT, log)
    if state.exit_code != 0:
        why = f"hook {name} ended with exit code {state.exit_code}"
        return work.failed(why, ErrorCode.SCRIPT_FAILED, work.host.log(found.id))
    return work.done(f"hook {name} succeeded")


def _of_event(work: Work) -> Container | None:
    wanted = {GROUP: work.about.group_id, DEPLOYMENT: work.about.deployment_id, KIND: HOOK, EVENT: _attempt(work)}
    return next(iter(work.host.containers(wanted)), None)


def _attempt(work: Work) -> str:
    """The event; that of a repetition has its number."""
    retries = retries_of(work.target.details, work.event)
    return f"{work.event}-{retries}" if retries else work.event


def _create(work: Work, hook: HookCommand) -> str:
    about, plan = work.about, work.task.container
    limits = limits_of(plan, work.host.settings)
    own = work.own(work.sets())
    if own is not None:
        limits["network_mode"] = f"container:{own.slots[0].id}"
    options = options_of(plan)
    options["environment"] |= {
        "APPLICATION_NAME": about.application,
        "DEPLOYMENT_ID": about.deployment_id,
        "DEPLOYMENT_GROUP_NAME": about.group_name,
        "DEPLOYMENT_GROUP_ID": about.group_id,
        "LIFECYCLE_EVENT": work.event,
    }
    program, *arguments = hook.command
    return work.host.create(
        f"entrepot-{about.deployment_id}-{_attempt(work)}",
        work.image(),
        limits,
        labels={**common_labels(about, work.group, HOOK), EVENT: _attempt(work)},
        **{**options, "entrypoint": [program], "command": arguments},
    )


def clear_hooks(work: Work) -> None:
    """Remove the containers of a deployment's hooks."""
    for container in work.host.containers(
        {GROUP: work.about.group_id, DEPLOYMENT: work.about.deployment_id, KIND: HOOK}
    ):
        work.host.remove(container.id)
