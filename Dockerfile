FROM python:3.12-slim-bookworm AS build
COPY . /src
RUN python -m venv /opt/bids-parcellate && /opt/bids-parcellate/bin/pip install --no-cache-dir "/src[fast]"

FROM python:3.12-slim-bookworm
COPY --from=build /opt/bids-parcellate /opt/bids-parcellate
ENV PATH=/opt/bids-parcellate/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba TEMPLATEFLOW_HOME=/templateflow
USER 1000
ENTRYPOINT ["bids-parcellate"]
