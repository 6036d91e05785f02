# The server alone, for a PostgreSQL of your own: without the embedded one. See compose.yaml for both together.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /build \
    && /build/bin/pip install --only-binary :all: --require-hashes --requirement requirements-build.lock \
    && python -m venv /opt/taxii-server \
    && /opt/taxii-server/bin/pip install --only-binary :all: --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY migrations migrations
RUN /build/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /wheel . \
    && /opt/taxii-server/bin/pip install --no-deps --no-index /wheel/*.whl \
    && /opt/taxii-server/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="taxii-server" \
      org.opencontainers.image.description="A TAXII 2.1 server" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 taxii \
    && useradd --system --uid 10001 --gid taxii --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin taxii
COPY --from=build /opt/taxii-server /opt/taxii-server
ENV PATH=/opt/taxii-server/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /
EXPOSE 8000
# Liveness only: a database that is away must not get the server restarted. Ask /readyz before sending it traffic.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4).close()"]
ENTRYPOINT ["taxii-server"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--behind-tls-proxy"]
