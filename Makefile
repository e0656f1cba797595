# Two commands set everything up on a machine with Python 3.10-3.13: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python
# A worker that dies is told with its test, and a test that hangs with where it hangs; without these the run would go on for ever.
BOUNDED = --max-worker-restart 0 -o faulthandler_timeout=1200 -o faulthandler_exit_on_timeout=true
TESTS = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest --numprocesses 2 --dist loadfile $(BOUNDED)

# Compiled modules are kept: without them every process that imports TensorFlow compiles it again, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

# For `make test-versions`: the oldest and the newest Python that there is, and the tests of what others' packages do.
OLDEST_PYTHON ?= python3.10
NEWEST_PYTHON ?= python3.13
VERSION_TESTS ?= $(addprefix tests/, app audio embedders evaluation extraction store tagging training)

# For `make test-processors`: the tests that compare numbers which depend on the processor, or should not.
NUMERIC_TESTS ?= $(addprefix tests/, audio embedders evaluation extraction/test_streaming.py library tagging tasks training \
	faults/test_determinism.py faults/test_degenerate_sound.py)

.PHONY: demo test test-all docs test-slow lint types test-processors test-versions audit notebooks wheel screenshots format clean

demo: $(VENV)/.package  ## the whole way, from MP3s to mood tags
	$(BIN)/jamendo-mood demo --out build/demo

test: lint types  ## a few minutes: at least one test of each part, one notebook, one song through the page in a browser
	$(TESTS) -m "not thorough and not slow" --durations 25

test-all: notebooks wheel  ## what `make test` leaves out: every test, notebook and fault, Ray, the built wheel
	$(TESTS) -m "thorough and not slow" --durations 25

$(VENV)/.package: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "uv>=0.5,<1"
	$(INSTALL) --editable ".[notebook,web]"
	touch $@

$(VENV)/.tools: $(VENV)/.package
	$(INSTALL) --editable ".[dev]"
	$(BIN)/uv pip check --quiet --python $(BIN)/python
	touch $@

$(VENV)/.docs: $(VENV)/.package
	$(INSTALL) --editable ".[docs]"
	touch $@

docs: $(VENV)/.docs  ## the documentation, build/docs/index.html; any warning is an error
	$(BIN)/sphinx-build --fail-on-warning --quiet docs build/docs

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tools
	$(BIN)/mypy

test-slow: $(VENV)/.tools  ## an hour: real sizes, the targets on AudioSet, all faults for docs/reliability.md
	JAMENDO_MOOD_FAULTS=docs/reliability.md $(BIN)/pytest -m "" tests/faults
	$(TESTS) -m slow --ignore tests/faults

# oneDNN, which computes TensorFlow's networks, takes another way on each of these.
test-processors: $(VENV)/.tools  ## the numeric tests as on processors of three generations
	ONEDNN_MAX_CPU_ISA=SSE41 $(TESTS) -m "not slow" $(NUMERIC_TESTS)
	ONEDNN_MAX_CPU_ISA=AVX2 $(TESTS) -m "not slow" $(NUMERIC_TESTS)
	$(TESTS) -m "not slow" $(NUMERIC_TESTS)

# What an old package warns of in what it imports itself is not for us to mend; all other warnings are errors there, too.
test-versions: $(VENV)/.tools  ## the lowest versions that setup.cfg allows, then the newest: half an hour, 4 GB below build/
	mkdir -p build && sed -n 's/^ *\([A-Za-z0-9_-]*\)>=\([0-9.]*\),.*/\1==\2/p' setup.cfg > build/lowest.txt
	$(call try_versions,$(OLDEST_PYTHON),--constraint build/lowest.txt,-W default::DeprecationWarning)
	$(call try_versions,$(NEWEST_PYTHON),,)

define try_versions
$(1) -m venv --clear build/versions
$(BIN)/uv pip install --quiet --python build/versions/bin/python --editable ".[dev]" $(2)
$(BIN)/uv pip check --quiet --python build/versions/bin/python
PATH="$(abspath build/versions/bin):$$PATH" build/versions/bin/python -m pytest $(3) $(VERSION_TESTS)
build/versions/bin/jamendo-mood demo --out build/versions/demo
rm -rf build/versions
endef

audit: $(VENV)/.tools  ## do the installed versions have known flaws? asks api.osv.dev, and fails where that cannot be reached
	$(BIN)/pip check
	$(PYTHON) -m venv --clear build/audit && build/audit/bin/pip install --quiet "pip-audit>=2.7,<3"
	build/audit/bin/pip-audit --vulnerability-service osv --progress-spinner off --path $(VENV)/lib/python*/site-packages \
		2> build/audit.log || (tail -n 1 build/audit.log; false)

build/demo/audio:
	$(MAKE) demo

notebooks: $(VENV)/.tools build/demo/audio  ## all of them, on the demo's corpus
	$(TESTS) --nbmake --nbmake-timeout=600 -m "" notebooks

wheel: $(VENV)/.tools build/demo/audio  ## the built wheel, alone in an empty environment, tags a song, and a library of beets'
	rm -rf build/wheel && $(BIN)/python -m build --wheel --outdir build/wheel . > build/wheel.log 2>&1 || (cat build/wheel.log; false)
	$(BIN)/uv venv --quiet --python $(BIN)/python build/wheel/venv
	$(BIN)/uv pip install --quiet --python build/wheel/venv/bin/python build/wheel/*.whl
	cd build/wheel && venv/bin/python -c "from jamendo_mood.training.model import load_builtin; load_builtin()"
	ls build/wheel/venv/lib/*/site-packages/jamendo_mood/app/static/*.css > /dev/null
	cd build/wheel && venv/bin/jamendo-mood tag ../demo/audio/06/1106.mp3 --tagger "$$(ls -d ../demo/tagger-[lv]* | head -n 1)"
	$(BIN)/uv pip install --quiet --python build/wheel/venv/bin/python "$$(ls $(CURDIR)/build/wheel/*.whl)[beets]"
	echo "{plugins: jamendomood, jamendomood: {tagger: '$$(ls -d $(CURDIR)/build/demo/tagger-[lv]* | head -n 1)'}}" > build/wheel/config.yaml
	cd build/wheel && BEETSDIR=. venv/bin/beet import --quiet -A -C ../demo/audio/06 > beets.log 2>&1 || (cat beets.log; false)
	cd build/wheel && BEETSDIR=. venv/bin/beet ls -f '$$mood' mood:sad arousal:..-0.2 | grep sad

screenshots: $(VENV)/.tools  ## docs/img, from the tests in a real browser
	JAMENDO_MOOD_SCREENSHOTS=docs/img $(BIN)/pytest tests/browser

format: $(VENV)/.tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

clean:
	rm -rf build dist $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache
