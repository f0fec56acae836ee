# edge-exray in a container. Targets:
#   full     everything, on TFX 1.21: for Kubeflow Pipelines, for `docker run IMAGE exray ...`; the default. It lacks the
#            /opt/apache/beam/boot of images that Beam starts workers in
#   runtime  the library and its shell without TFX: for gates in CI, and for devices
#   test     what `make newest-stack-test` runs the tests in; not for shipping

FROM debian:13-slim AS base
# Versions of Debian packages are not pinned, because a stable release offers only the latest of each.
# Kubeflow's launcher runs as the user of the image and keeps artifacts below /gcs, /minio or /s3. Not every version of
# Kubeflow mounts a volume there.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home exray \
    && install --directory --owner exray /gcs /minio /s3
ENV PATH=/opt/edge-exray/bin:$PATH
WORKDIR /home/exray

FROM base AS build
# pyfarmhash and crcmod have no wheels: a compiler is needed here, but not in an image that ships.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/py311plus.txt requirements/
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir "$(grep '^uv==' requirements/py311plus.txt)"
# Bytecode is made now, because the user of the image may not write it: TFX would take a minute to import, every time.
ENV PATH=$PATH:/opt/uv/bin VIRTUAL_ENV=/opt/edge-exray UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 \
    UV_CONSTRAINT=/src/requirements/py311plus.txt UV_BUILD_CONSTRAINT=/src/requirements/py311plus.txt
# What the libraries depend on, and no source beside it: sources that change do not make the libraries anew.
COPY setup.py pyproject.toml ./
COPY edge_exray/version.py edge_exray/
RUN mkdir components pipelines schemas && touch LICENSE README.md && uv venv "$VIRTUAL_ENV"

FROM build AS libraries
RUN uv pip install --requirements setup.py --extra all

FROM build AS runtime-libraries
# `exray validate` runs the cloud model, hence TensorFlow (`convert`). A device that logs, profiles and lints
# does without: --build-arg EXTRAS="cli monitor report".
ARG EXTRAS="cli convert monitor report"
# hadolint ignore=SC2046,SC2086
RUN uv pip install --requirements setup.py $(printf -- '--extra %s ' $EXTRAS)

FROM build AS wheel
COPY LICENSE README.md ./
COPY components components/
COPY edge_exray edge_exray/
COPY pipelines pipelines/
COPY schemas schemas/
RUN uv build --wheel --out-dir /wheel

FROM libraries AS test
COPY . .
RUN uv pip sync requirements/py311plus.txt && uv pip install --no-deps --no-build-isolation --editable .

FROM base AS runtime
# One layer of libraries that seldom change, one small layer of ours.
COPY --from=runtime-libraries /opt/edge-exray /opt/edge-exray
RUN --mount=type=bind,from=build,source=/opt/uv,target=/opt/uv --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/uv/bin/uv pip install --python /opt/edge-exray --offline --no-cache --no-deps --compile-bytecode /wheel/*.whl
USER 1000
CMD ["exray", "--help"]

FROM base AS full
COPY --from=libraries /opt/edge-exray /opt/edge-exray
RUN --mount=type=bind,from=build,source=/opt/uv,target=/opt/uv --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/uv/bin/uv pip install --python /opt/edge-exray --offline --no-cache --no-deps --compile-bytecode /wheel/*.whl
USER 1000
# Runs what it is given. TFX's Kubeflow runner puts `python -m ...kubeflow_v2_run_executor` before the options of an executor,
# unless its `default_commands` are empty: then the options come alone.
ENTRYPOINT ["/bin/sh", "-c", "case $1 in --*) set -- python -m tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor \"$@\" ;; esac; exec \"$@\"", "entry"]
CMD ["exray", "--help"]
