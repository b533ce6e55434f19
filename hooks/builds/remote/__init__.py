"""The side of builds that runs on another machine: a runner, which knows the server by HTTP and nothing of its database."""
