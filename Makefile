# SPDX-License-Identifier: Apache-2.0
# The front door; CMake does the work. `make help` lists the commands.

SHELL        := /bin/bash
.SHELLFLAGS  := -eu -o pipefail -c
MAKEFLAGS    += --no-print-directory
.DEFAULT_GOAL := release

JOBS    ?= $(shell nproc)
ARGS    ?=
ROOM    ?=
ROOMS   ?=
RESULTS := build/results

# Without a home directory of ours, the compilers' caches go where all else that is built goes.
ifneq ($(shell [ -w "$$HOME" ] && echo yes),yes)
export CCACHE_DIR := $(CURDIR)/build/ccache
export GOCACHE    := $(CURDIR)/build/go-cache
endif

CONFIGURE = tools/quiet build/$*/configure.log cmake --preset $*
SOURCES   = git ls-files '*.hpp' '*.cpp'

.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile \
	  | while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

# ---- a newcomer's two commands

.PHONY: run
run: ## install what is missing, build the release, start the service; ARGS="--app :9000"
	@tools/setup run
	@$(MAKE) configure-release
	@cmake --build build/release -j $(JOBS) --target exeunt_example_service
	@exec build/release/examples/service $(ARGS)

.PHONY: test
test: ## install what is missing, build, run all tests
	@tools/setup test
	@$(MAKE) suite-dev RESULT=test

# ---- building

configure-%:
	@mkdir -p build/$*
	@$(CONFIGURE)

build-%: configure-%
	@cmake --build build/$* -j $(JOBS)

# Builds a preset and runs its tests; the outcome of each is kept in $(RESULTS) for the sum.
# ROOMS="sched chan": only these rooms' tests, and what they need.
suite-%: RESULT = $*
suite-%: configure-%
	@cmake --build build/$* -j $(JOBS) $(if $(ROOMS),--target $(ROOMS:%=%_tests))
	@tools/run_tests build/$* $(RESULTS)/$(RESULT).xml -j $(JOBS) $(CTEST_ARGS) \
	  $(if $(ROOMS),-L '^($(shell echo $(ROOMS) | tr ' ' '|'))$$')

.PHONY: release
release: ## the release build (also just `make`)
	@tools/setup run
	@$(MAKE) build-release

.PHONY: asan tsan lto shared clang aarch64
# The end-to-end tests left out here are those whose clients need the machine for themselves.
asan: ## build with AddressSanitizer and UndefinedBehaviorSanitizer, run all but the load tests
	@$(MAKE) suite-asan CTEST_ARGS="-E '^e2e.(tools|drain|rough)'"
tsan: ## build with ThreadSanitizer, run all but the end-to-end tests
	@$(MAKE) suite-tsan CTEST_ARGS="-LE e2e"
lto: ## build with -O3 across files, run all tests
	@$(MAKE) suite-lto
shared: ## build shared libraries at -O3, run all tests
	@$(MAKE) suite-shared
clang: ## build dev with Clang, run all tests
	@$(MAKE) suite-dev-clang RESULT=clang
aarch64: ## build the rooms that know the CPU for aarch64, run their tests by qemu
	@$(MAKE) suite-aarch64

# ---- the inner loop

.PHONY: check
check: tidy ## build dev, tidy, unit and sim tests; ROOM=chan: that room and what it rests on
	@$(MAKE) configure-dev
ifeq ($(ROOM),)
	@cmake --build build/dev -j $(JOBS)
	@tools/run_tests build/dev $(RESULTS)/check.xml -j $(JOBS) -L '^(unit|sim|death|tool)$$'
else
	@rooms=$$(python3 tools/tidy.py --below $(ROOM)); \
	  cmake --build build/dev -j $(JOBS) --target $$(printf '%s_tests ' $$rooms); \
	  tools/run_tests build/dev $(RESULTS)/check.xml -j $(JOBS) \
	    -L '^(unit|sim|death)$$' -L "^($$(echo $$rooms | tr ' ' '|'))$$"
endif

.PHONY: tidy
tidy: ## layers, mirrors, headers that stand alone, house rules
	@python3 tools/tidy.py

.PHONY: models
models: ## check the models of the scheduler's protocols, whole and broken
	@models/run

.PHONY: format format-check
format: ## lay out all C++ sources
	@$(SOURCES) | xargs clang-format-19 -i
format-check: ## fail if `make format` would change something
	@$(SOURCES) | xargs clang-format-19 --dry-run -Werror

.PHONY: lint
lint: ## clang-tidy over the sources (slow)
	@$(MAKE) configure-dev-clang
	@git ls-files 'src/*.cpp' 'examples/*.cpp' \
	  | xargs -P $(JOBS) -n 1 clang-tidy-19 --quiet -p build/dev-clang

# ---- the rest

PROGRAM ?= examples/race_counter.cpp
.PHONY: race
race: ## build PROGRAM="a.cpp b.cpp" with ThreadSanitizer, run it with ARGS; a race ends it with 66
	@tools/race $(PROGRAM) -- $(ARGS)

.PHONY: bench
bench: ## install what is missing, measure, print the table of ratios
	@tools/setup bench
	@$(MAKE) build-bench
	@bench/run build/bench $(ARGS)

.PHONY: install-test
install-test: ## install the release and build an outside project on it
	@$(MAKE) build-release
	@rm -rf build/install-test
	@tools/quiet build/install-test/install.log \
	  cmake --install build/release --prefix build/install-test/prefix
	@cmake -S tests/install -B build/install-test/project -G Ninja \
	  -DCMAKE_PREFIX_PATH=$(CURDIR)/build/install-test/prefix
	@cmake --build build/install-test/project
	@build/install-test/project/outside

.PHONY: e2e
e2e: REPEATS ?= 5
# test_tools.py needs no service, so it finds with the release what it has found in the tests.
e2e: TESTS = $(filter-out test_tools,$(basename $(notdir $(wildcard tests/e2e/test_*.py))))
e2e: ## the end-to-end tests against the release; each drain five times
	@$(MAKE) build-release
	@cd tests/e2e && EXEUNT_SERVICE=$(CURDIR)/build/release/examples/service \
	  EXEUNT_E2E_REPEATS=$(REPEATS) python3 -B -m unittest $(TESTS)

.PHONY: hardened
hardened: ## check the release's hardening, assembly included
	@$(MAKE) build-release
	@tools/hardened $(CURDIR)/build/release

.PHONY: setup
setup: ## install all packages that any command needs
	@tools/setup run test ci bench

# What CI does beyond `make test`, in this order. A stage that fails does not stop the next.
# Clang's warnings are those of asan and tsan. What -O3 makes of thread-locals shows in the rooms
# where fibers change threads. Each takes minutes of the hour that all may take.
CI_STAGES    := tidy format-check models release hardened install-test e2e asan tsan lto shared aarch64
ARGS_lto     := ROOMS="sched"
ARGS_shared  := ROOMS="sched"
ARGS_e2e     := REPEATS=1

.PHONY: ci
ci: ## what CI does beyond the tests
	@rm -f $(RESULTS)/failed
	@tools/stage setup tools/setup ci || touch $(RESULTS)/failed
	@$(foreach stage,$(CI_STAGES),tools/stage $(stage) $(MAKE) $(stage) \
	  $(ARGS_$(stage)) || touch $(RESULTS)/failed;)
	@[ ! -e $(RESULTS)/failed ]

.PHONY: clean
clean: ## remove everything built
	@rm -rf build
