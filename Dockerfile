# One image, three commands: serve (default), worker, migrate. Build: docker build -t entrepot .
# How to run it, and what builds need: docs/operations.md, "In a container".
# BASE may be any Debian-like image with Python 3.11 or newer.
ARG BASE=python:3.13-slim
FROM ${BASE}

RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap python3 python3-venv python3-pip ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /var/lib/entrepot entrepot

WORKDIR /opt/entrepot
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY storage storage
COPY registry registry
COPY hooks hooks
COPY config config
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

USER entrepot
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    ENTREPOT_DATA=/var/lib/entrepot/data \
    ENTREPOT_SERVER_BIND=0.0.0.0:8080
VOLUME /var/lib/entrepot
EXPOSE 8080
# It asks what runs in this container: the server where it listens, the worker by its row in the database.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["entrepot", "health"]
ENTRYPOINT ["entrepot"]
CMD ["serve"]
