# edge-exray on TFX 1.21: an image for Kubeflow Pipelines, for Beam workers, or for `docker run IMAGE exray ...`.

FROM debian:13-slim AS libraries
# pyfarmhash and crcmod have no wheels: a compiler is needed here, but not in the image that ships.
# Versions of Debian packages are not pinned, because a stable release offers only the latest of each.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/py311plus.txt requirements/
# Bytecode is made now, because the user of the image may not write it: TFX would take a minute to import, every time.
RUN python3 -m venv /opt/edge-exray \
    && /opt/edge-exray/bin/pip install --no-cache-dir "$(grep '^uv==' requirements/py311plus.txt)" \
    && VIRTUAL_ENV=/opt/edge-exray /opt/edge-exray/bin/uv pip sync --no-cache --compile-bytecode requirements/py311plus.txt

FROM libraries AS wheel
COPY . .
RUN /opt/edge-exray/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .

FROM debian:13-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home exray
# One layer of libraries that seldom change, one small layer of ours.
COPY --from=libraries /opt/edge-exray /opt/edge-exray
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/edge-exray/bin/pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
ENV PATH=/opt/edge-exray/bin:$PATH
USER 1000
WORKDIR /home/exray
CMD ["exray", "--help"]
