# Two commands set everything up on a machine with Python 3.10-3.13: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

# For `make test-versions`: the oldest and the newest Python that there is, and the tests of what others' packages do.
OLDEST_PYTHON ?= python3.10
NEWEST_PYTHON ?= python3.13
VERSION_TESTS ?= $(addprefix tests/test_, $(addsuffix .py, audio decoders embedders handcrafted heads model objects pages \
	parquet prediction remote scoreplots spectrograms training vggish web widget yamnet))

.PHONY: demo test lint types tests test-slow test-versions audit notebooks wheel screenshots format clean

demo: $(INSTALLED)  ## the whole way, from MP3s to mood tags
	$(BIN)/jamendo-mood demo --out build/demo

test: lint tests  ## all that must be green
	$(MAKE) -j 2 types notebooks wheel

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip check
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED)  ## in two halves at once: much of their time is spent waiting for processes
	mkdir -p build; $(BIN)/pytest tests/test_[a-j]*.py tests/faults > build/tests.log 2>&1 & first=$$!; \
	$(BIN)/pytest tests/test_[k-z]*.py tests/browser; second=$$?; \
	wait $$first; first=$$?; cat build/tests.log; exit $$((first + second))

test-slow: $(INSTALLED)  ## what takes an hour, two at once: real sizes, the targets on AudioSet, all faults for docs/reliability.md
	mkdir -p build; export JAMENDO_MOOD_FAULTS=docs/reliability.md; \
	$(BIN)/pytest -m "" tests/faults/test_[a-h]*.py > build/slow.log 2>&1 & first=$$!; \
	$(BIN)/pytest -m "" tests/faults/test_[i-z]*.py; second=$$?; \
	$(BIN)/pytest -m slow --ignore tests/faults; third=$$?; \
	wait $$first; first=$$?; cat build/slow.log; exit $$((first + second + third))

# What an old package warns of in what it imports itself is not for us to mend; all other warnings are errors there, too.
test-versions:  ## the lowest versions that setup.cfg allows, then the newest: half an hour, 4 GB below build/
	mkdir -p build && sed -n 's/^ *\([A-Za-z0-9_-]*\)>=\([0-9.]*\),.*/\1==\2/p' setup.cfg > build/lowest.txt
	$(call try_versions,$(OLDEST_PYTHON),--constraint build/lowest.txt,-W default::DeprecationWarning)
	$(call try_versions,$(NEWEST_PYTHON),,)

define try_versions
$(1) -m venv --clear build/versions
build/versions/bin/pip install --quiet --editable ".[dev]" $(2)
build/versions/bin/pip check
PATH="$(abspath build/versions/bin):$$PATH" build/versions/bin/python -m pytest $(3) $(VERSION_TESTS)
build/versions/bin/jamendo-mood demo --out build/versions/demo
rm -rf build/versions
endef

audit: $(INSTALLED)  ## do the installed versions have known flaws? asks api.osv.dev, and fails where that cannot be reached
	$(BIN)/pip check
	$(PYTHON) -m venv --clear build/audit && build/audit/bin/pip install --quiet "pip-audit>=2.7,<3"
	build/audit/bin/pip-audit --vulnerability-service osv --progress-spinner off --path $(VENV)/lib/python*/site-packages \
		2> build/audit.log || (tail -n 1 build/audit.log; false)

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
