# What a scheduler and its workers need: the pinned packages. The project itself is mounted
# (compose.yaml), so that code and paths are those of the process that asks. Take the Python that you
# use yourself: a worker with another one is refused.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
COPY requirements.txt requirements-cluster.txt /
RUN pip install --no-cache-dir --require-hashes -r /requirements.txt -r /requirements-cluster.txt
