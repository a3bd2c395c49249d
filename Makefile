# Each target does all of its own set-up. `make help` lists them.
.PHONY: help setup demo test lint bench lock clean
.DEFAULT_GOAL := help
py := .venv/bin/python

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

setup:  ## make .venv with the locked versions (GPU build of vLLM where nvidia-smi works)
	@sh tools/setup.sh

demo: setup  ## curate a few real clips on this machine: no GPU, no model hub
	@$(py) tools/demo_input.py demo/input
	@$(py) main.py curate --config configs/demo.yaml --input demo/input --output demo/output

test: setup  ## the whole test suite, in two processes: one has the tests that share a Ray
	@$(py) -m pytest -n 2 --dist loadscope --no-loadscope-reorder

lint: setup  ## formatting, lint, types
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/pyright

bench: setup  ## benchmarks against peers and physical limits
	@$(py) -m benchmarks

lock:  ## resolve requirements anew into requirements/locked-*.txt
	@sh tools/lock.sh

clean:  ## remove what demo and tests made
	rm -rf demo .pytest_cache .ruff_cache
