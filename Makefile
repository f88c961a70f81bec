# The book's commands; `make help` lists them. Everything happens in .venv/, which is made when
# first needed, in two steps: what the site needs (no torch), then the rest.
PYTHON ?= python3
CHAPTER ?=
STORE ?=

BIN := .venv/bin
SITE := .venv/.site-level
FULL := .venv/.full-level
BENCH := .venv/.bench-level
HTML := _build/html/index.html
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := _config.yml _toc.yml index.md \
	$(shell find book sitekit src/vae_core src/vae_book -type f -not -path '*/.*' -not -name '*.pyc')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test execute reproduce claims weights sync address bench lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

book: $(HTML) ## the site, from the stored outputs, without torch
	@echo "The book is in $(HTML): open it in a browser, or serve it with"
	@echo "  $(PYTHON) -m http.server --directory _build/html"

test: export OMP_WAIT_POLICY := PASSIVE
test: export GOMP_SPINCOUNT := 0
test: $(FULL) $(HTML) ## unit tests, notebooks, book and site, on the embedded data
	$(BIN)/python -m pytest --nbval --numprocesses auto --dist loadfile tests book

execute: $(FULL) ## run the notebooks on MNIST and store the outputs (CHAPTER=01 for one)
	$(BIN)/python tools/book execute $(CHAPTER)

reproduce: $(FULL) ## run the notebooks on MNIST and compare with the stored outputs
	$(BIN)/python tools/book reproduce $(CHAPTER)

claims: $(FULL) ## try every claim with several seeds on three data sets, and store the ranges
	$(BIN)/python tools/book claims $(CHAPTER)

weights: $(FULL) ## train the stored models again and compare (STORE=1 stores them)
	$(BIN)/python tools/train_weights.py $(if $(STORE),--store)

sync: $(SITE) ## .md to .ipynb; times, claims, equations and addresses to their places
	$(BIN)/python tools/book sync

address: $(SITE) ## another repository address, everywhere: make address URL=https://github.com/…
	$(BIN)/python tools/book address $(URL)

bench: $(BENCH) ## the benchmarks, whose results the page on speed draws (EXAMPLE=… for the race)
	for name in throughput likelihood growth race; do $(BIN)/python benchmarks/$$name.py || exit 1; done

lint: $(FULL) ## ruff, the form of the chapters, and the state of the notebooks
	$(BIN)/ruff check .
	$(BIN)/python tools/book form
	$(BIN)/python tools/book check

clean: ## remove what was built; the environment stays
	rm -rf _build .pytest_cache .ruff_cache

$(HTML): $(SITE) $(SOURCES)
	$(BIN)/jupyter-book build . --path-output . -W --keep-going
	@touch $@

$(SITE): requirements-site.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The book needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet -r requirements-site.txt
	@touch $@

$(FULL): $(SITE) requirements.txt pyproject.toml
	$(PIP) install --quiet -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH): $(FULL) benchmarks/requirements.txt
	$(PIP) install --quiet -r benchmarks/requirements.txt
	@touch $@
