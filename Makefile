# Everything a fresh machine needs: python3 and make.
#   make demo      train, score and plot one small task
#   make test      the tests and the checks of `make lint`
#   make lint      ruff and mypy
#   make bench     speed of environments, training, planning, many agents, the leaderboard and sweeps
#   make site      tables and page of the leaderboard, from its submissions
#   make docs      the site with all documents, into build/docs
#   make numbers   numbers in the documents, from what is stored
#   make datasets  build all datasets into Minari's folder

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DOCS := $(VENV)/.installed-docs

DEMO_TASK := ResourceGathering-n25-k3-v0
DEMO_TRANSITIONS := 300000
DEMO_OUT := build/demo
BENCH_OUT := build/benchmarks
# Options of benchmarks.peers: `python -m scripts.make_peers` prints those of EnvPool.
PEERS :=

# Many an image of containers sets it. The bytecode of a new environment is made when a module is
# first imported; without it every process would compile torch and all else anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench site docs numbers datasets venv constraints clean

help:
	@sed -n '2,9s/^# *//p' Makefile

demo: venv
	$(BIN)/rmdp-bench run em $(DEMO_TASK) --seeds 0 --transitions $(DEMO_TRANSITIONS) --out "$(DEMO_OUT)"
	$(BIN)/rmdp-bench leaderboard show --task $(DEMO_TASK) --runs "$(DEMO_OUT)"
	$(BIN)/rmdp-bench plot "$(DEMO_OUT)" --out "$(DEMO_OUT)/figures"
	@echo "The learned paths are in $(DEMO_OUT)/figures/paths-$(DEMO_TASK)-em.png"

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv
	$(BIN)/python -m benchmarks.environments --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.peers $(PEERS) --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.stable_baselines --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.training --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.planning --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.persim --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.offline_learners --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.agents --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.leaderboard --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.full_check --out "$(BENCH_OUT)"
	$(BIN)/python -m benchmarks.sweeps --out "$(BENCH_OUT)"

site: venv
	$(BIN)/rmdp-bench leaderboard build

# Two minutes of work for a core, the notebook included; a warning or a dead link is an error. The
# leaderboard's page lies where the workflow publishes it.
docs: $(INSTALLED_DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs
	$(BIN)/rmdp-bench leaderboard build
	rm -rf build/docs/leaderboards && cp -R leaderboards build/docs/leaderboards
	$(BIN)/python -m scripts.check_site build/docs
	@echo "Open build/docs/index.html"

numbers: venv
	$(BIN)/python -m scripts.generate_documents

datasets: venv
	$(BIN)/rmdp-bench datasets build --all

venv: $(INSTALLED)

# Installed once, and again when the dependencies change. Without bytecode, which is made when a
# module is first imported, that takes half as long.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[baselines,behaviour,dev,slurm]"
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

# Resolve the newest versions again, with the oldest supported Python: PYTHON=python3.11.
# torch pins its own CUDA packages, so they stay out of the file.
constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet ".[baselines,behaviour,dev,docs,ray,slurm,wandb]"
	{ sed '/^[^#]/d' constraints.txt; \
	  build/constraints/bin/python -m pip freeze --all --exclude pip --exclude rmdp_bench \
	  | sed -E -e '/^(nvidia|cuda|triton)/d' -e 's/\+[a-z0-9.]+$$//' | LC_ALL=C sort -f; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean:
	rm -rf $(VENV) build
