# efface on a processor:  docker build -t efface .
# with CUDA:              docker build -t efface --build-arg TORCH=https://download.pytorch.org/whl/cu130 .   (then: docker run --gpus all)
# the demo:               mkdir -p runs && docker run --user "$(id -u)" -v "$PWD/runs:/data/runs" -v efface-cache:/cache efface
# any other verb:         docker run -it --user "$(id -u)" -v "$PWD/runs:/data/runs" -v efface-cache:/cache efface chat runs/demo
FROM python:3.13-slim

# whose build of torch is taken; one with CUDA brings its libraries, the host has the driver
ARG TORCH=https://download.pytorch.org/whl/cpu
# extras of efface, for example [play,tune]
ARG EXTRAS=

WORKDIR /src
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH" torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".$EXTRAS"

# targets, figures and models, kept in a volume; whoever the container runs as may write there
ENV EFFACE_CACHE=/cache HF_HOME=/cache/huggingface HOME=/cache USER=efface
RUN useradd efface && mkdir -p /data/runs /cache && chmod 1777 /data/runs /cache
USER efface
WORKDIR /data

ENTRYPOINT ["efface"]
CMD ["erase", "smollm2-135m", "ancient-egypt", "--to", "runs/demo"]
