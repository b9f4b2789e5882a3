# make           check and quick tests: what to run before a commit
# make up        environment, image, then the service on http://127.0.0.1:$(PORT); Ctrl-C ends it
# make test      all tests
# make dev       the environment that tests, load tests and training need, for .venv/bin/python -m ...
# make check     formatting, lint, types, import rules
# make humaneval the 164 HumanEval programs through a service of its own
# make image-test  build the container image, run docker-compose.yml with podman and runc, push HumanEval through it
# make chaos     every fault of the acceptance list under load, with a client that knows each answer; about 10 minutes
# make integrations-test  contract tests inside verl and TRL, in an environment of their own (2 GB)
# make soak      100,000 calls, a fifth of them hostile: nothing may grow, nothing may get slower
# make load      the service beside its baselines: report with plots in loadtest/reports/load; QUICK=1 for two minutes'
# make load-results  the last report's figures into README.md, docs/performance.md, CAPACITY.md and the costs of `plan`
# make uml-test  the whole service on cgroup v2, in user-mode-linux
# make train-demo  a policy from nothing: SFT, three stages of GRPO-RoC, evaluation, report in runs/demo
# make train-compare  RoC, GRPO and a uniform half from the demo's SFT, three seeds, 30 steps, in runs/compare
# make lock      renew the pinned versions of everything (commit the result)
# make clean     remove the environment and caches; images stay (`sandbox-service rootfs prune` removes those)
# Variables: PORT=8000 (or SANDBOX_PORT), PYTHON=/path/to/python3.11 (or 3.12)

PORT ?= $(or $(SANDBOX_PORT),8000)
BIN := .venv/bin
READY := .venv/.ready-server
DEV := .venv/.ready-dev

.PHONY: quick up test dev check humaneval chaos soak load load-results lock clean help root image integrations-test image-test uml-test
quick: check image
	$(BIN)/pytest -q -m "not slow"

up: root $(READY)
	@exec $(BIN)/sandbox-service serve --port $(PORT)

# In one fixed order, so that what passed once passes again; `make quick` shuffles, which finds tests that lean on others.
test: $(DEV) image
	$(BIN)/pytest -q -p no:randomly -m "not slow"
	$(BIN)/pytest -q -p no:randomly -m slow

dev: $(DEV)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

humaneval: $(DEV) image
	$(BIN)/python -m loadtest.humaneval

chaos: $(DEV) image
	$(BIN)/python -m tests.chaos.driver

soak: $(DEV) image
	$(BIN)/python -m tests.chaos.soak

load: $(DEV) image
	$(BIN)/python -m loadtest.load $(if $(QUICK),--quick --out loadtest/reports/quick) $(LOAD)

load-results: $(DEV)
	$(BIN)/python -m loadtest.capacity --write
	$(BIN)/python -m loadtest.load.report --readme

# Apart from tests/conftest.py, which needs the server's packages; their warnings are not ours.
integrations-test: $(DEV) .venv-integrations/.ready image
	.venv-integrations/bin/python -m pytest -q --confcutdir=tests/integrations -W default tests/integrations

train-demo: $(DEV) image
	$(BIN)/sandbox-service train --recipe nano --out runs/demo

train-compare: $(DEV) image
	$(BIN)/python -m loadtest.train_compare runs/demo/sft --out runs/compare

image: root $(READY)
	@$(BIN)/sandbox-service rootfs build

image-test: $(DEV) root
	scripts/image-test.sh

uml-test: $(DEV) image
	UML_MEMORY=3G scripts/uml.sh tests/container/uml_guest.sh || [ $$? = 77 ]  # 77: not on this processor

root:
	@test "$$(id -u)" = 0 || { echo "make: jails are made by root: run this with sudo" >&2; exit 1; }

$(READY): requirements.lock pyproject.toml scripts/bootstrap
	@PYTHON="$(PYTHON)" scripts/bootstrap server

.venv-integrations/.ready: requirements-integrations.txt scripts/bootstrap
	@PYTHON="$(PYTHON)" scripts/bootstrap integrations

$(DEV): requirements-dev.lock requirements-train.txt pyproject.toml scripts/bootstrap
	@PYTHON="$(PYTHON)" scripts/bootstrap dev

lock:
	@scripts/lock

clean:
	rm -rf .venv .venv-integrations .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

help:
	@sed -n '/^$$/q;s/^# //p' Makefile
