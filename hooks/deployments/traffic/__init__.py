"""Which targets take requests: named pools in a router that somebody else runs. Knows no deployment and no database."""
