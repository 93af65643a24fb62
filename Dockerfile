ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# --- what the service needs from the package registry, hashes checked; pip and its caches stay behind here
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/venv
COPY requirements.txt /tmp/
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: -r /tmp/requirements.txt

FROM packages AS simulator-packages
COPY scripts/requirements-simulator.txt /tmp/
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: -r /tmp/requirements-simulator.txt

# --- a user of its own and the environment of every image below
FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --system --gid 10001 folkform \
    && useradd --system --uid 10001 --gid folkform --no-create-home --home-dir /app --shell /usr/sbin/nologin folkform
WORKDIR /app
STOPSIGNAL SIGTERM

# --- Pancake's stand-in, for demonstrations: docker build --target simulator .
FROM base AS simulator
COPY --from=simulator-packages /opt/venv /opt/venv
COPY tests/__init__.py tests/
COPY tests/simulators tests/simulators
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/_sim/clock', timeout=2)"]
CMD ["python", "-m", "tests.simulators.pancake", "--host", "0.0.0.0", "--port", "8080", "--live", "1"]

# --- the worker, and the default: docker build .
FROM base AS worker
COPY --from=packages /opt/venv /opt/venv
COPY src src
USER 10001:10001
# Prometheus' metrics and /health/..., see WORKER_METRICS_PORT.
EXPOSE 9100
# Whether it lives, not whether it is ready: what is unhealthy is killed by Swarm and its like, and no restart brings a
# Redis back that is away; the jobs that run meanwhile would be lost for nothing. It answers first when the start is over,
# so `docker compose up --wait` waits for that. With the port off, arq's own sign of life has to do.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD if [ "${WORKER_METRICS_PORT:-9100}" = 0 ]; then exec arq --check src.worker.WorkerSettings; fi; \
    exec python -c "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open( \
    'http://127.0.0.1:%s/health/live' % (os.environ.get('WORKER_METRICS_PORT') or 9100), timeout=5)"
CMD ["arq", "src.worker.WorkerSettings"]
