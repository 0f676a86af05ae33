# One image for the server, coordinators and Ray nodes; compose.yaml says who is who.
FROM python:3.11-slim-bookworm

ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 ORT_DISABLE_TELEMETRY=1 PARETOFORMER_LOG_FORMAT=json
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl g++ \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/paretoformer
COPY pyproject.toml constraints.txt ./
# packages in a layer of their own, which other sources leave as it is; the CPU build of torch: half a gigabyte less
# than the default
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      > /tmp/packages.txt \
 && pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt \
      -r /tmp/packages.txt \
 && rm /tmp/packages.txt
COPY README.md LICENSE ./
COPY space space
COPY evaluators evaluators
COPY search search
COPY dashboards dashboards
COPY api api
# PYTHONDONTWRITEBYTECODE holds for the service's user, who could not write here anyway
RUN pip install --no-cache-dir --no-deps -e . \
 && python -m compileall -q space evaluators search dashboards api

RUN useradd --create-home --uid 10001 paretoformer \
 && install -d -o paretoformer -g paretoformer /srv/paretoformer /srv/paretoformer/data
# a new volume takes its owner from the folder it is mounted on: without /srv/paretoformer/data it would be root's
USER paretoformer
WORKDIR /srv/paretoformer
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD curl -fsS http://127.0.0.1:8765/livez || exit 1
CMD ["paretoformer", "serve"]
