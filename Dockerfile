# The bridge as an image: docker build --tag nightbell .
# It runs as nobody in particular on a read-only root; what must survive is in /data, and the configuration in /config.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The libraries come first: they change less often than the bridge.
COPY requirements/bridge.lock requirements/build.lock requirements/
RUN python -m venv /opt/nightbell \
    && /opt/nightbell/bin/pip install --require-hashes --only-binary=:all: --requirement requirements/bridge.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary=:all: --requirement requirements/build.lock

COPY pyproject.toml LICENSE ./
COPY bridge bridge
RUN /opt/build/bin/hatchling build --target wheel \
    && /opt/nightbell/bin/pip install --no-deps dist/*.whl \
    && /opt/nightbell/bin/pip uninstall --yes pip setuptools


FROM python:3.11-slim-bookworm
# What makes recordings playable.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 nightbell \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin nightbell \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /registration
COPY --from=build /opt/nightbell /opt/nightbell

# Nothing is written beside /data: no bytecode either.
ENV PATH=/opt/nightbell/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NIGHTBELL_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8470

HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["nightbell", "health", "--config", "/config"]
ENTRYPOINT ["nightbell"]
CMD ["run", "--config", "/config"]
