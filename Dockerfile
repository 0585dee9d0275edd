# The notes server in a container, for Cloud Run or any other place. docs/deploy-cloud-run.md leads through it.
# Built in two steps: pip and its caches stay behind.

FROM python:3.13.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /app/.venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY tmcp_serverless tmcp_serverless
RUN python -m pip --python /app/.venv/bin/python install --no-compile '.[container]'
COPY handlers /app/handlers
# Unchecked: in the image nobody changes a source file, so nobody has to look whether somebody has.
RUN rm -rf /app/handlers/Makefile /app/handlers/requirements.txt \
    && /app/.venv/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash \
        /app/.venv/lib /app/handlers

FROM python:3.13.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin notes
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT=8080
USER 10001
EXPOSE 8080
# One process, which is told to stop itself: no shell stands between it and SIGTERM.
CMD ["python", "-m", "handlers.container"]
