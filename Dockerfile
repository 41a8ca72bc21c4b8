# Two images of one program: `serving` (the HTTP service, the monitor, every command but training) has no torch in it;
# `worker` adds what training needs. The commands are the ones of any shell: leeway serve, leeway monitor, leeway worker.
#
#   docker build --target serving --tag leeway .
#   docker build --target worker --tag leeway-worker --build-arg TORCH_INDEX=URL .
#
# TORCH_INDEX is another wheel index for torch; one with builds for machines without CUDA saves gigabytes.

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN pip install --no-cache-dir --constraint requirements.lock hatchling
COPY monitoring monitoring
COPY service service
COPY training training
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels .

FROM python:3.11-slim AS serving-packages
RUN python -m venv /opt/leeway
ENV PATH=/opt/leeway/bin:$PATH
COPY requirements.lock /
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /requirements.lock "$(echo /wheels/leeway-*.whl)[grpc,postgres]"

FROM serving-packages AS worker-packages
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' /requirements.lock)"
RUN pip install --no-cache-dir --constraint /requirements.lock \
    "$(echo /wheels/leeway-*.whl)[grpc,postgres,train,offline-model]"

FROM python:3.11-slim AS runtime
RUN groupadd --gid 10001 leeway && useradd --uid 10001 --gid leeway --create-home leeway && \
    install --directory --mode 700 --owner leeway --group leeway /var/lib/leeway
# Inside a container 127.0.0.1 is the container: it is the published port that says who may connect.
ENV PATH=/opt/leeway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LEEWAY_HOME=/var/lib/leeway \
    LEEWAY_SERVER__HOST=0.0.0.0 \
    LEEWAY_MONITOR__HOST=0.0.0.0
# by number, so that Kubernetes can see that it is not root
USER 10001:10001
WORKDIR /home/leeway
VOLUME /var/lib/leeway

FROM runtime AS worker
COPY --from=worker-packages /opt/leeway /opt/leeway
ENV HF_HOME=/var/lib/leeway/huggingface
CMD ["leeway", "worker"]

FROM runtime AS serving
COPY --from=serving-packages /opt/leeway /opt/leeway
EXPOSE 8080 9108
CMD ["leeway", "serve"]
