"""The side of deployments that runs on another machine: an agent, which knows the server by HTTP and its signed commands."""
