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
RUN useradd --system --uid 10001 --home-dir /var/lib/hub --create-home hub
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
