# The only door: every way to set up, check, test and run the repository. `make` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?=
VENV := .venv
RAY := .venv-ray
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_STAMP := $(VENV)/.installed-run

# The first Python that is new enough runs what follows it.
FIND_PYTHON := found=; \
	for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "setup: Python 3.11 or newer is needed; $(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) -V 2>/dev/null || echo 'not there'). Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 1; \
	fi; \
	$$found

# glibc gives blocks over 128 KiB back to the kernel on every free, and each 256 KiB chunk of an
# image is such a block; keeping them costs a third of the CPU per streamed MiB (docs/operations.md).
LAUNCH := MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=268435456

# Compiled modules are kept, also where the environment says otherwise: torch and diffusers are thousands.
export PYTHONDONTWRITEBYTECODE :=

PACKAGES := protos/gen/python clients/python service

.PHONY: help setup proto reference docs fmt lint types arch protos-check check test compat compat-clients fuzz clients-test clients-check browser redis prometheus demo demo-ray test-ray serve gallery bench bench-denoisers bench-gpu bench-peers bench-report test-gpu clean exact exports pipelines soak train deploy-check release version adapters ray-faults ray-changes ray-clients ray-served ray-full-disk playground-picture

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the service, the client, the generated code and the tools

$(STAMP): constraints.txt $(PACKAGES:%=%/pyproject.toml)
	@$(FIND_PYTHON) setup/install.py tools
	@touch $@ $(RUN_STAMP)

# What runs the service, without the tools: what has the tools has this too.
.PHONY: runtime
RUNTIME := $(or $(wildcard $(STAMP)),$(RUN_STAMP))
runtime: $(RUNTIME)

$(RUN_STAMP): constraints.txt $(PACKAGES:%=%/pyproject.toml)
	@$(FIND_PYTHON) setup/install.py run
	@touch $@

proto: setup ## generate the Python code of protos/ anew, and the reference
	protos/generate.sh
	@$(MAKE) --no-print-directory reference

reference: setup ## write the pages of docs/ that say what the code says: protos, settings, commands, metrics, pipelines
	$(BIN)/python -m darkroom_server.backends.diffusers.pipeline_inspection service/darkroom_server/pipelines/pipeline_calls.json
	protos/generate.sh $(CURDIR)/docs markdown
	$(BIN)/python docs/reference.py

docs: setup ## build the documentation as a site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

fmt: setup ## format Python and protos, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BIN)/buf format -w

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

arch: setup
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q tests/architecture tests/contract/test_generated_code.py

protos-check: setup
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format -d --exit-code
	@PATH="$(CURDIR)/$(BIN):$$PATH" protos/breaking.sh $(PROTOS_BASE)

check: lint types protos-check arch ## format, lint, types, layers, protos: everything but the tests

# Tests wait for servers, processes and the disk as long as they compute: one process more than there are
# cores, each with one thread, so that they do not stand in each other's way. ARGS="-n 0 ..." runs them in one.
TEST_PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

test: setup ## all tests
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

# A test that fails beside others and passes alone is a defect too, of the test or of the service: -rA names it.
test-again: setup ## the tests that failed in the last run, once more and one by one
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --last-failed --last-failed-no-failures none -rA $(ARGS)

test-gpu: setup ## parity with the stock pipelines on a GPU
	DARKROOM_PARITY_DEVICE=cuda $(BIN)/pytest tests/parity/test_shared_steps.py tests/parity/test_sdxl_steps.py \
	  tests/parity/test_flux.py tests/parity/test_sd.py tests/parity/test_sd3.py \
	  tests/parity/test_hidream.py tests/parity/test_gpu.py $(ARGS)

exact: setup ## a thousand mixed images of every family under load, each against the pipeline alone
	OMP_WAIT_POLICY=PASSIVE DARKROOM_EXACT_IMAGES=56 $(BIN)/pytest -m "slow or not slow" -rP --timeout=3600 tests/parity/test_exact_load.py $(ARGS)

adapters: setup ## every family and layout of adapters against diffusers, and more than two hundred mixed images under load
	DARKROOM_EXACT_IMAGES=40 $(BIN)/pytest -m "slow or not slow" -rP --timeout=3600 \
	  tests/parity/test_adapters_of_families.py tests/parity/test_adapters_load.py $(ARGS)

exports: setup ## the exported denoisers of every family against torch's: some minutes
	$(BIN)/pytest -m "slow or not slow" tests/parity/test_denoisers.py $(ARGS)

pipelines: setup ## a small one of every pipeline class of diffusers, served and compared: some minutes
	$(BIN)/pytest -m "slow or not slow" tests/parity/test_every_pipeline.py $(ARGS)

soak: setup ## swap versions 500 times, and break things under load: some minutes
	$(BIN)/pytest -m slow -rP tests/soak $(ARGS)

compat: compat-clients ## the generated code under protobuf 7, and clients that people have
	$(BIN)/python -m pytest -q tests/compat

compat-clients: setup ## install those clients, in environments of their own
	@test -x .venv-protobuf7/bin/python || $(BIN)/python -m venv .venv-protobuf7
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-protobuf7/bin/python -m pip install -qq \
	  protobuf==7.36.2 grpcio==1.85.1 protos/gen/python
	.venv-protobuf7/bin/python -W error tests/contract/use_generated_code.py
	@for client in together==3.1.1 replicate==1.0.7 fal_client==1.0.3 huggingface_hub==0.25.2 huggingface_hub==2.4.0 schemathesis==4.32.5 litellm==1.92.2; do \
	  home=.compat/$$(echo $$client | sed 's/^\(together\|replicate\|fal_client\|schemathesis\|litellm\)==.*/\1/; s/==/-/'); \
	  test -x $$home/bin/python || $(BIN)/python -m venv $$home; \
	  PIP_DISABLE_PIP_VERSION_CHECK=1 $$home/bin/python -m pip install -qq $$client pillow || exit 1; \
	done
	@for client in 'tritonclient[grpc,http]==2.73.0' kserve==0.21.0; do \
	  home=.compat/$$(echo $$client | sed 's/[=[].*//'); \
	  test -x $$home/bin/python || $(BIN)/python -m venv $$home; \
	  PIP_DISABLE_PIP_VERSION_CHECK=1 $$home/bin/python -m pip install -qq $$client || exit 1; \
	done
	@if command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; \
	then npm install --prefix .compat/node --no-fund --no-audit \
	  --silent openai@6.49.0 @huggingface/inference@4.13.30 @fal-ai/client@1.10.1 \
	  ai@6.0.326 @ai-sdk/fal@2.0.59 @ai-sdk/openai@3.0.141 @bufbuild/protobuf@2.17.0 \
	  @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @connectrpc/connect-web@2.1.2 \
	  @grpc/grpc-js@1.14.3 @grpc/proto-loader@0.8.1; \
	else echo "no npm with Node 20 or newer: Node's clients are left out"; fi
	@tests/compat/perf_analyzer.sh .compat/perf_analyzer || echo "no perf_analyzer here: its runs are left out"

COUNT ?= 20000

fuzz: compat ## made-up messages, images, configs, model folders, weights and adapters (COUNT=200000), and HTTP requests
	$(BIN)/python -m tests.fuzz --count $(COUNT)
	$(BIN)/python -m tests.fuzz.served --count $$(($(COUNT) / 10))
	FUZZ_EXAMPLES=500 $(BIN)/python -m pytest -q -s --timeout=3600 tests/compat/test_fuzz.py

clients-test: setup ## build every client, run the same cases by each, draw a picture (some: ARGS="go ruby")
	clients/install.sh $(filter-out --%,$(ARGS))
	$(BIN)/python -m clients.conformance $(ARGS)

clients-check: setup ## the cases by the TypeScript client alone: quick
	@if command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; \
	then $(BIN)/python -m clients.conformance typescript --no-picture; \
	else echo "no npm with Node 20 or newer: the TypeScript client is left out"; fi

browser: setup ## install Chromium, which the tests of the playground drive
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  $(BIN)/playwright install chromium-headless-shell || { \
	  echo "browser: no Chromium could be fetched (on Debian and Ubuntu: apt install chromium)" >&2; exit 1; }

release: setup ## build every package into build/release, with parts and provenance, and try each as who installs it
	-clients/install.sh typescript go
	$(BIN)/python -m setup.release build/release

version: setup ## set the version everywhere and close the change log's part for it: VERSION=1.2.3
	$(BIN)/python setup/release_notes.py $(VERSION)

deploy-check: setup ## lint, render and try what is in deploy/; ARGS="FOLDER" also runs the Dockerfile's steps in it
	deploy/check.sh $(ARGS)

redis: ## install redis-server, which the tests of shared limits start
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null; } || { \
	  echo "redis: no redis-server could be installed (on Debian and Ubuntu: apt install redis-server)" >&2; exit 1; }

prometheus: ## install Prometheus, which the tests of alerts and dashboards start
	@command -v prometheus >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus >/dev/null; } || { \
	  echo "prometheus: could not be installed (on Debian and Ubuntu: apt install prometheus)" >&2; exit 1; }

demo: runtime ## start the service, generate and fill pictures over gRPC, show them in one sheet
	@$(LAUNCH) $(BIN)/python -m examples.demo

demo-ray: $(RAY)/.installed ## the same with the models on a Ray cluster of this machine
	@DARKROOM_ON=ray $(LAUNCH) $(RAY)/bin/python -m examples.demo

test-ray: setup $(RAY)/.installed ## the tests that need Ray
	$(RAY)/bin/python -m pytest -q --timeout=900 tests/unit/scale_out tests/integration/scale_out $(ARGS)

ray-faults: $(RAY)/.installed ## end replicas, nodes and the head under 300 requests (one of them: ARGS="node")
	$(RAY)/bin/python -m bench.ray_faults $(ARGS)

ray-changes: $(RAY)/.installed ## 200 cancels at once, scaling and a hot swap under load, on Ray nodes of this machine
	$(RAY)/bin/python -m bench.ray_changes $(ARGS)

ray-served: $(RAY)/.installed ## what Ray costs a call, and what 1, 2 and 4 replicas make by ours and by its own routing
	$(RAY)/bin/python -m bench.ray_served $(ARGS)

ray-full-disk: $(RAY)/.installed ## a Ray node without room for a model, beside one with room and alone (needs root)
	$(RAY)/bin/python -m bench.ray_full_disk $(ARGS)

ray-clients: $(RAY)/.installed ## the cases of clients-test, with models on Ray (some: ARGS="go typescript")
	clients/install.sh $(filter-out --%,$(ARGS))
	PYTHON=$(CURDIR)/$(BIN)/python $(RAY)/bin/python -m clients.conformance --on ray $(ARGS)

# Ray, which `make setup` leaves out, in an environment that sees all of the other one.
$(RAY)/.installed: $(RUNTIME)
	@echo "setup: Ray, in $(RAY)"
	@$(BIN)/python -m venv $(RAY)
	@echo "import site; site.addsitedir('$$(cd $(BIN) && ./python -c "import site; print(site.getsitepackages()[0])")')" \
	  > "$$($(RAY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/darkroom.pth"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(RAY)/bin/python -m pip install -qq -c constraints.txt 'ray[serve,serve-grpc]==2.60.0'
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(RAY)/bin/python -m pip install -qq --no-deps -e service
	@touch $@

serve: runtime ## serve model_repo on 127.0.0.1:8001 (more flags: make serve ARGS="--grpc-port 9001")
	@$(LAUNCH) $(BIN)/darkroom serve --model-repository model_repo --default-model tiny-sdxl $(ARGS)

gallery: setup ## draw the pictures of the README anew
	@$(LAUNCH) $(BIN)/python -m examples.gallery

playground-picture: setup browser ## draw the picture of the web page anew
	@$(LAUNCH) $(BIN)/python -m examples.playground_picture

# Where a training keeps everything, and how much of each stage's budget it spends.
TRAINING ?= build/training-icons
TRAIN := OMP_NUM_THREADS=1 PYTHONPATH=training nice -n 19 $(BIN)/python -m darkroom_training.icons

train: setup $(TRAINING)/icons/png ## train the embedded models, or go on where that stopped (a tenth of it: ARGS="--share 0.1")
	$(TRAIN) all --folder $(TRAINING) $(ARGS)

# Icons come from npm once, and are rendered by resvg in an environment of its own.
$(TRAINING)/icons/png:
	@command -v npm >/dev/null || { echo "train: npm is needed to fetch the icons, once" >&2; exit 1; }
	@echo "train: fetching 2 icon packages (4 MB) and rendering 128 icons"
	@mkdir -p $(TRAINING)/icons/packages $(TRAINING)/icons/noto $(TRAINING)/icons/fluent
	@cd $(TRAINING)/icons/packages && npm pack --silent @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji-flat@1.2.6 >/dev/null
	@tar xzf $(TRAINING)/icons/packages/iconify-json-noto-1.2.9.tgz -C $(TRAINING)/icons/noto --strip-components=1
	@tar xzf $(TRAINING)/icons/packages/iconify-json-fluent-emoji-flat-1.2.6.tgz -C $(TRAINING)/icons/fluent --strip-components=1
	@$(TRAIN) icons --folder $(TRAINING)
	@$(BIN)/python -m venv $(TRAINING)/resvg
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(TRAINING)/resvg/bin/python -m pip install -qq resvg-py==0.5.0
	@$(TRAINING)/resvg/bin/python training/darkroom_training/icons/icon_rendering.py $(TRAINING)/icons $(TRAINING)/icons/wanted.txt

bench: setup ## measure the goals (one tier: make bench ARGS="--tier v", rougher: --quick)
	$(LAUNCH) $(BIN)/python -m bench $(ARGS)

bench-denoisers: setup ## measure every denoiser against torch's eager one (rougher: ARGS=--quick)
	$(BIN)/python -m bench.denoisers $(ARGS)

bench-gpu: setup ## full-size models on a GPU: step costs, compiling, the server (ARGS="costs" for a part)
	$(LAUNCH) $(BIN)/python -m bench.gpu $(ARGS)

# Linux shares its cores between sessions first: the driver's bare pipeline has one, as every server has.
OWN_SESSION := $(shell command -v setsid >/dev/null && echo setsid --wait)

bench-peers: setup ## measure Darkroom beside other servers of the same pipeline, each in its own environment (rougher: ARGS=--quick)
	$(BIN)/python -m bench.peers.install
	$(LAUNCH) $(OWN_SESSION) $(BIN)/python -m bench.peers $(ARGS)

bench-report: setup ## draw docs/performance.md from the newest results
	$(BIN)/python -m bench.report

clean: ## remove the environments and everything made by the tools; build/ stays
	rm -rf $(VENV) $(RAY) .venv-peer-* .venv-protobuf7 .compat .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf clients/typescript/node_modules clients/typescript/dist clients/typescript/src/gen
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
