# Two commands on a fresh machine: `make sweep` and `make test`. Python 3.11 to 3.13 is all they need.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev,kaggle
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
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

constraints: $(READY)  ## exact versions anew, after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate pyproject.toml -o constraints.txt

# uv installs in a third of pip's time. It reads none of pip's settings: where they name an index of one's own, or uv
# does not get through to the usual one, pip installs. Neither compiles: to compile all of TensorFlow takes as long as
# the rest, and little of it is ever imported.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.13 found; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up $(VENV) (once; half a minute to three minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt uv
	@if $(BIN)/python -m pip config list | grep -q '[.]index.url=' || \
		! $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'; then \
		echo "installing with pip" && \
		$(PIP) install --no-compile -c constraints.txt -e '.[$(EXTRAS)]'; \
	fi
	@touch $(READY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
