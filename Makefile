# Two commands on a fresh machine: `make sweep` and `make test`. Python 3.11 to 3.13 is all they need.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
EXTRAS ?= dev,kaggle
READY := .venv/.ready
# Each process would compile all that it imports, TensorFlow for six seconds, where the environment forbids to keep it.
export PYTHONDONTWRITEBYTECODE :=
# Two processes, a file in each, the longest first (tests/support/order.py).
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: sweep test lint benchmark constraints clean

sweep: $(READY)  ## the main job: two studies on Fashion-MNIST, about five minutes on 2 cores; ARGS="..." adds overrides
	$(BIN)/python -m fmnist_sweep -m optimizer=rmsprop,adam $(ARGS)

test: $(READY)  ## everything but what is marked slow (make test ARGS="-m slow" runs those)
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(TOGETHER) -m "not slow")

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(READY)
	$(BIN)/python benchmarks/overhead.py

constraints:  ## exact versions anew, after a change of pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate pyproject.toml -o constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.13 found; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up .venv (once; one to three minutes)"
	$(PYTHON) -m venv .venv
	@# --no-compile: to compile all of TensorFlow takes as long as the rest, and little of it is ever imported
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(READY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
