# Two commands are all a new user needs: make demo, make test. Both set up .venv from uv.lock.
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin/
ARGS ?=

.PHONY: demo test check format docs clean test-integrations check-resolution

demo: .venv/ready
	$(RUN)bindu demo $(ARGS)

test: .venv/ready
	$(RUN)pytest $(ARGS)

check: .venv/ready
	$(RUN)ruff check --no-cache .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports --no-cache

format: .venv/ready
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

docs: .venv/ready # the pages of docs/reference that are written from the code
	for script in scripts/*_reference.py; do $(RUN)python $$script || exit 1; done

bench-%: .venv/ready # one of benchmarks/, such as bench-serving
	$(RUN)python benchmarks/$*.py $(ARGS)

test-integrations: .venv/ready # each framework's latest release, in an environment of its own; ARGS=agno for one
	$(RUN)python scripts/test_integrations.py $(ARGS)

check-resolution: .venv/ready # whether a framework's latest release can have us beside it
	$(RUN)python scripts/check_resolution.py $(ARGS)

clean:
	rm -rf .venv .venvs .tools .mypy_cache .pytest_cache .ruff_cache

.venv/ready: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || test -x .tools/bin/uv \
		|| $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv \
		|| { echo "error: uv cannot be installed: pip is missing. Install pip (Debian: apt-get install python3-pip) or uv, then run make again." >&2; exit 4; }
	$(UV) sync --locked --all-extras --quiet --python $(PYTHON)
	@touch $@
