"""Everything that a pipeline's document may name: the providers of actions and of rules."""

from __future__ import annotations

from hooks.pipelines import actions, judging

PROVIDERS = (*actions.PROVIDERS, *judging.RULE_PROVIDERS)
