# How to build this image, behind a mirror or without a network too, and how to run it: docs/containers.md.

FROM python:3.12-slim-bookworm AS dependencies
WORKDIR /src
COPY requirements.lock ./
COPY containers/build.lock containers/install-dependencies.sh containers/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    containers/install-dependencies.sh

FROM dependencies AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY bids_parcellate bids_parcellate
COPY containers/install-app.sh containers/*.py /wheel/
RUN python -m pip wheel --no-build-isolation --no-index --no-deps --wheel-dir /wheel .

FROM dependencies AS templates
COPY containers/templateflow /templateflow
COPY containers/fetch_templates.py containers/
# Names of templates to fetch, such as "MNI152NLin2009cAsym MNI152NLin6Asym". This needs a network.
ARG TEMPLATES=""
# hadolint ignore=SC2086
RUN /opt/bids-parcellate/bin/python containers/fetch_templates.py /templateflow ${TEMPLATES} \
    && chmod -R a+rX /templateflow

FROM python:3.12-slim-bookworm
COPY --from=dependencies /opt/bids-parcellate /opt/bids-parcellate
COPY --from=templates /templateflow /templateflow
RUN --mount=type=bind,from=wheel,source=/wheel,target=/mnt \
    /mnt/install-app.sh /mnt/*.whl
# Kernels were compiled for what every CPU has, so that they are found, and give the same numbers, on any.
ENV PATH=/opt/bids-parcellate/bin:$PATH \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/opt/bids-parcellate/kernels \
    NUMBA_CACHE_LOCATOR_CLASSES=shipped_kernels.ShippedKernels \
    NUMBA_CPU_NAME=generic \
    TEMPLATEFLOW_HOME=/templateflow
ARG VERSION=development
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bids-parcellate" \
      org.opencontainers.image.description="BIDS-App: group brain parcellation from fMRIPrep derivatives" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="python:3.12-slim-bookworm"
USER 1000:1000
ENTRYPOINT ["bids-parcellate"]
