# make demo: from a bare machine to a measured recommendation. make test: everything before a merge, and what CI runs.
# make newest: the same tests with the newest releases of everything. make soak: what takes long, before an issue is closed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
TARGETS := help demo test static newest check soak docs clean
.PHONY: $(TARGETS)

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# A stamp is named after what it was installed from: set-up is skipped until pyproject.toml or constraints.txt changes.
SUM := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
DEMO := .venv/.demo-$(SUM)
FULL := .venv/.full-$(SUM)
ARGS ?=
# Two files of tests at a time: programs are compiled on one core each.
TOGETHER ?= -n 2 --dist loadfile
# Where the newest releases are tried, without constraints, in environments that are made for it and removed.
NEWEST ?= 3.12 3.13
# `all`: every test with the optional parts, some of which hold JAX back; `bare`: without them, what trains, evaluates and acts.
WITH ?= all bare
BARE := tests/core tests/encoders tests/learners tests/runs tests/test_compile_options.py tests/test_algorithm.py tests/cli/test_train.py \
        tests/training/test_fused.py tests/play/test_evaluation.py tests/fleet/test_fast_actor.py tests/rollout/test_workers.py

# `make test -k x`: make itself takes -k, and x would be a target of its own, looked for after all tests have run.
STRAY := $(filter-out $(TARGETS),$(MAKECMDGOALS))
ifneq ($(STRAY),)
ifneq ($(filter $(TARGETS),$(MAKECMDGOALS)),)
$(error $(STRAY) is no target: pass arguments on as in make test ARGS="-k name")
endif
endif

help:
	@echo 'make demo   install, find the architecture for a foraging task, print the table and the report (about 5 minutes)'
	echo 'make test   install everything; format, lint, types, layers, docs, tests (ARGS="-k name": these tests alone)'
	echo 'make static format, lint, types, layers, docs: what needs no test to run'
	echo 'make newest run every test with the newest releases, without constraints, on Python $(NEWEST) (40 minutes; NEWEST=3.13 WITH=bare: a part)'
	echo 'make soak   the slow tests, and 100,000 agent-steps of every kind of environment'
	echo 'make docs   build the documentation into site/'
	echo 'make clean  remove the environment and what was built'

$(BIN)/python:
	@for python in python3.11 python3.12 python3.13 python3; do
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	    echo "setting up .venv with $$python" >&2
	    "$$python" -m venv .venv && exit 0
	  fi
	done
	echo 'Marlstone needs Python 3.11 or newer: install it, then run make again' >&2
	exit 1

$(FULL): | $(BIN)/python
	@echo 'installing marlstone with every optional part (once)' >&2
	$(PIP) -e '.[all,dev]'
	rm -f .venv/.full-* .venv/.demo-*
	touch $(FULL) $(DEMO)

$(DEMO): | $(BIN)/python
	@echo 'installing marlstone (once)' >&2
	$(PIP) -e .
	rm -f .venv/.full-* .venv/.demo-*
	touch $(DEMO)

demo: | $(DEMO)
	@$(BIN)/marlstone select --env 'jumanji:LevelBasedForaging?task=8x8-2p-2f-coop' --quick $(ARGS)

static: | $(FULL)
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy & types=$$!
	(cd benchmarks && ../$(BIN)/python render.py --check)
	$(BIN)/mkdocs build --strict --quiet
	wait $$types

test: $(if $(strip $(ARGS)),,static) | $(FULL)
	@$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

check: test

newest:
	@try() { # try PYTHON EXTRAS TESTS...
	  local python=$$1 extras=$$2 made
	  shift 2
	  made=$$(mktemp -d)
	  trap "rm -rf '$$made'" EXIT
	  "$$python" -m venv "$$made"
	  "$$made/bin/python" -m pip install -qq --disable-pip-version-check -e ".[$$extras]"
	  echo "== $$("$$python" --version), marlstone[$$extras]: $$("$$made/bin/python" -m pip freeze | grep -Ei '^(jax|jaxlib|numpy|scipy|optax|gymnasium|pettingzoo|jumanji|jaxmarl|ray|sqlalchemy|pytest)==' | paste -sd ' ')"
	  "$$made/bin/python" -m pytest $(TOGETHER) "$$@" $(ARGS)
	}
	for version in $(NEWEST); do
	  python=
	  for found in "python$$version" "$$HOME"/.pyenv/versions/"$$version"*/bin/"python$$version"; do
	    if [ -z "$$python" ] && "$$found" -c '' 2>/dev/null; then python=$$found; fi
	  done
	  if [ -z "$$python" ]; then
	    echo "make newest needs python$$version, and there is none: install it, or choose others, e.g. make newest NEWEST=3.13" >&2
	    exit 1
	  fi
	  for with in $(WITH); do
	    case $$with in
	      all) (try "$$python" all,dev) ;;
	      bare) (try "$$python" dev $(BARE)) ;;
	      *) echo "WITH is $$with: choose all, bare or both" >&2; exit 1 ;;
	    esac
	  done
	done

soak: | $(FULL)
	@$(BIN)/python -m pytest -m slow $(TOGETHER) $(ARGS)
	AGENT_STEPS=100000 $(BIN)/python -m pytest tests/envs/test_legal_actions.py $(ARGS)

docs: | $(FULL)
	@$(BIN)/mkdocs build --strict

clean:
	@rm -rf .venv site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
