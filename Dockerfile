# The demo, with nothing installed but Docker:
#   docker build --tag rmdp-bench . && docker run --rm --volume "$PWD/demo:/out" rmdp-bench
FROM python:3.14-slim

RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /rmdp_bench
COPY . .
# torch for a CPU is a tenth of the one for a GPU.
RUN python -m pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt -e ".[baselines]" \
    && touch /usr/local/.installed \
    && useradd --create-home person && mkdir /out && chown -R person /out /rmdp_bench
USER person
# What make would install is there already.
CMD ["make", "demo", "VENV=/usr/local", "DEMO_OUT=/out"]
