# The command line and the service in an image, without root.
#
#   docker build --tag tailorbert .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/data" tailorbert search --latency 4x --output out
#
# What can be made again is in `cache` on the volume: delete it as you like.
#
# A service with its database and workers is in compose.yaml. Alone, on SQLite, with tokens:
#
#   docker run --rm --volume tailorbert:/data --publish 127.0.0.1:8765:8765 tailorbert serve \
#     --host 0.0.0.0 --data /data
#   docker exec CONTAINER nas admin token create --data /data --owner ada --scope admin
#
# For a CUDA device give a base that carries its libraries, for example
#   --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
# and run with --gpus all. The default index may answer `torch` with a CUDA build; to keep it out of
# the CPU image, name an index of CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
# Debian and Ubuntu keep only the newest point release, so a pinned one would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
RUN python3 -m venv /opt/tailorbert
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY latency latency
COPY nas nas
COPY supernet supernet
RUN /opt/tailorbert/bin/pip install --no-cache-dir --constraint constraints.txt \
    '.[service,otel,hub,defaults]'

FROM python AS run
# pg_dump and pg_restore, for `nas admin backup` and `restore`.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-client \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 nas && install --directory --owner nas /data
COPY --from=build /opt/tailorbert /opt/tailorbert
ENV PATH=/opt/tailorbert/bin:$PATH NAS_CACHE=/data/cache
USER nas
WORKDIR /data
VOLUME /data
EXPOSE 8765
# Of `nas serve`; commands that end by themselves are over before it counts.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD \
    ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["nas"]
CMD ["--help"]
