# syntax=docker/dockerfile:1
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md ./
RUN python -m venv /opt/hub && /opt/hub/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY hub hub
COPY connectors connectors
COPY mappings mappings
RUN /opt/hub/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
# The lease broker is a user of its own: nobody else reads its keys, and its sockets are in folders of its own.
RUN useradd --system --uid 10001 --home-dir /var/lib/hub --create-home hub \
 && useradd --system --uid 10002 --home-dir /var/lib/hub-keys --create-home broker && chmod 0700 /var/lib/hub-keys \
 && install -d -o broker -m 0755 /run/leases /run/leases/worker /run/leases/api
COPY --from=build /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HUB_HOME=/var/lib/hub \
    HUB_LOG_FORMAT=json
USER hub
WORKDIR /var/lib/hub
EXPOSE 8700
ENTRYPOINT ["hub"]
CMD ["serve", "--host", "0.0.0.0", "--no-worker"]
