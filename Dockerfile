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

FROM python AS venv
RUN python3.11 -m venv $VIRTUAL_ENV
WORKDIR /src
COPY constraints.txt ./

# Torch alone and first, as in the Makefile, and in a layer that no change of ours rebuilds.
FROM venv AS torch-cuda
RUN pip install --no-cache-dir -c constraints.txt torch

FROM venv AS torch-cpu
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch

FROM torch-${BUILD} AS build
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[cluster,icons,store]'

FROM python
COPY --from=build /opt/metatrain /opt/metatrain
# /tmp alone can be written to, and nobody has the user's number in a password file.
ENV HOME=/tmp USER=metatrain PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
