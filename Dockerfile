# gsco on a CPU (the last stage), and with vLLM for GPUs in an environment of its own (stage "generalist").
# It was not built where it was written; see compose.yaml.

FROM python:3.12-slim AS base
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 gsco && install --directory --owner gsco /var/lib/gsco
WORKDIR /opt/gsco
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt ".[server,weaviate]"
USER gsco
WORKDIR /var/lib/gsco
ENTRYPOINT ["gsco"]

FROM base AS generalist
USER root
# vLLM compiles kernels as it starts.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/vllm && /opt/vllm/bin/pip install --no-cache-dir "vllm>=0.32,<0.33"
ENV GSCO_VLLM_PYTHON=/opt/vllm/bin/python
USER gsco

FROM base
