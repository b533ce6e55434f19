"""A deployment on the machine it is for: what an agent, or a local command, does there. Knows no server."""
