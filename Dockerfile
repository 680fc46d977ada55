# The demo, with nothing installed but Docker, into a folder that is yours:
#   docker build --tag rmdp-bench . && mkdir -p demo
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD/demo:/out" rmdp-bench
FROM python:3.14-slim

# hadolint ignore=DL3008
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /rmdp_bench
COPY . .
# torch for a CPU is a tenth of the one for a GPU.
RUN python -m pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt -e ".[baselines]" \
    && touch /usr/local/.installed && chmod -R a+rX . && mkdir --mode 777 /out
# Any user may run it; caches go where all may write.
ENV HOME=/tmp
USER 1000:1000
# What make would install is there already.
CMD ["make", "demo", "VENV=/usr/local", "DEMO_OUT=/out"]
