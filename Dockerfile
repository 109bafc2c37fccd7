# What every pod runs, for CUDA or, by BUILD=cpu, without:
#
#   docker build --build-arg PYTHON_DIGEST=sha256:... -t registry.example.com/metatrain .
#
# The tests run every RUN line, in a virtual environment.
ARG BUILD=cuda
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm
# Of that image; there is no default, so that nobody builds on what a tag happens to mean today.
ARG PYTHON_DIGEST

# No CUDA in it: torch brings its own, and nothing is compiled.
FROM ${PYTHON}@${PYTHON_DIGEST} AS python
ENV VIRTUAL_ENV=/opt/metatrain
ENV PATH=$VIRTUAL_ENV/bin:$PATH

FROM python AS backends
# The base image's pip installs into it, and the final image has none there.
RUN python3.11 -m venv --without-pip $VIRTUAL_ENV
WORKDIR /src
COPY requirements requirements
# `make constraints` writes these files. A file whose hash they do not have is refused, so no index
# and no mirror has to be trusted.
RUN pip --python $VIRTUAL_ENV install --no-cache-dir --require-hashes \
    --only-binary :all: -r requirements/build.txt

# PyPI has torch for CUDA.
FROM backends AS torch-cuda

FROM backends AS torch-cpu
RUN pip --python $VIRTUAL_ENV install --no-cache-dir --require-hashes --no-deps --no-index \
    --find-links https://download.pytorch.org/whl/cpu/torch/ -r requirements/torch-cpu.txt

FROM torch-${BUILD} AS build
ARG BUILD
# Of sources, DeepSpeed and pyvips alone, by the build backend above, so that nothing unknown does it.
RUN pip --python $VIRTUAL_ENV install --no-cache-dir --require-hashes --no-build-isolation \
    --only-binary :all: --no-binary deepspeed,pyvips -r requirements/${BUILD}.txt
COPY . .
RUN pip --python $VIRTUAL_ENV install --no-cache-dir --no-deps --no-build-isolation .

FROM python
COPY --from=build /opt/metatrain /opt/metatrain
# /tmp alone can be written to, and nobody has the user's number in a password file.
ENV HOME=/tmp USER=metatrain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
