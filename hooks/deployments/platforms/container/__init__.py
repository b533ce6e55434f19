"""Services on a host with the Docker API (Docker, or Podman's socket): ECS's blue/green deployments of task sets."""
