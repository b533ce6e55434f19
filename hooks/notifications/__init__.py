"""Telling the outside of events: webhooks and e-mail."""
