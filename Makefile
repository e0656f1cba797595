# Two commands set everything up on a machine with Python 3.10-3.13: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: demo test lint types tests test-slow notebooks wheel screenshots format clean

demo: $(INSTALLED)  ## the whole way, from MP3s to mood tags
	$(BIN)/jamendo-mood demo --out build/demo

test: lint types tests notebooks wheel  ## all that must be green

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED)  ## in two halves at once: much of their time is spent waiting for processes
	mkdir -p build; $(BIN)/pytest tests/test_[a-e]*.py > build/tests.log 2>&1 & first=$$!; \
	$(BIN)/pytest tests/test_[f-z]*.py tests/browser; second=$$?; \
	wait $$first; first=$$?; cat build/tests.log; exit $$((first + second))

test-slow: $(INSTALLED)  ## what takes an hour: real sizes, the targets on AudioSet, and all faults, for docs/reliability.md
	$(BIN)/pytest -m slow
	JAMENDO_MOOD_FAULTS=docs/reliability.md $(BIN)/pytest -m "" tests/faults

notebooks: $(INSTALLED)  ## all of them, on the demo's corpus
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest --nbmake --nbmake-timeout=600 -m "" notebooks

wheel: $(INSTALLED)  ## the built wheel, alone in an empty environment
	rm -rf build/wheel && $(BIN)/python -m build --wheel --outdir build/wheel . > build/wheel.log 2>&1 || (cat build/wheel.log; false)
	$(PYTHON) -m venv --clear build/wheel/venv
	build/wheel/venv/bin/pip install --quiet build/wheel/*.whl
	cd build/wheel && venv/bin/python -c "from jamendo_mood.model import load_builtin; load_builtin()"
	ls build/wheel/venv/share/jamendo-mood/notebooks/*.ipynb build/wheel/venv/lib/*/site-packages/jamendo_mood/static/*.css > /dev/null
	cd build/wheel && venv/bin/jamendo-mood demo --embedder logmel --out demo > demo.log 2>&1 || (cat demo.log; false)
	@tail -n 2 build/wheel/demo.log

screenshots: $(INSTALLED)  ## docs/img, from the tests in a real browser
	JAMENDO_MOOD_SCREENSHOTS=docs/img $(BIN)/pytest tests/browser

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

clean:
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache
