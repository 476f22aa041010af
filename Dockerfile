# syntax=docker/dockerfile:1
# One image for the code server, the webserver, the daemon and the command line (compose.yaml).
ARG PYTHON_IMAGE=python:3.12.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
RUN --mount=type=cache,target=/root/.cache/pip pip install uv==0.13.9
# Dependencies before the code, so that a change of code costs no download. What to install stands
# in pyproject.toml, so without its tools for development; which version of it, with its hashes, in
# requirements.lock: uv takes both from a constraint, and refuses a file with another hash.
COPY pyproject.toml requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv venv /opt/venv \
    && uv pip install --python /opt/venv --link-mode copy --compile-bytecode \
        -r pyproject.toml --extra postgres --constraint requirements.lock
COPY README.md LICENSE ./
COPY sql sql
COPY persona_pipeline persona_pipeline
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/venv --no-deps --link-mode copy \
        --build-constraint requirements.lock .

FROM ${PYTHON_IMAGE}
# libgomp1: the embedded model. tini: passes SIGTERM on to every process, so that runs end in order.
# hadolint ignore=DL3008  # Debian keeps only the newest version of a package
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 pipeline \
    && useradd --create-home --uid 10001 --gid 10001 pipeline \
    && install -d -o pipeline -g pipeline /data /cache /app/home
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY workspace.yaml ./
COPY deploy/workspace.docker.yaml deploy/
COPY deploy/dagster.postgres.yaml home/dagster.yaml
COPY assets assets
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    DAGSTER_HOME=/app/home \
    DAGSTER_LOCAL_DIR=/data/dagster \
    PERSONA_PIPELINE_DATA_DIR=/data \
    PERSONA_PIPELINE_CACHE_DIR=/cache
USER 10001:10001
VOLUME ["/data", "/cache"]
EXPOSE 3000 4000
# -g: to the whole group. The code server alone would wait for its runs, and be killed with them.
ENTRYPOINT ["tini", "-g", "--"]
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "assets.definitions"]
# Of the code server; compose.yaml has those of the others.
HEALTHCHECK --interval=15s --timeout=15s --start-period=60s --retries=4 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
