# SPDX-License-Identifier: Apache-2.0
# The front door; CMake does the work. `make help` lists the commands.

SHELL        := /bin/bash
.SHELLFLAGS  := -eu -o pipefail -c
MAKEFLAGS    += --no-print-directory
.DEFAULT_GOAL := release

JOBS    ?= $(shell nproc)
ARGS    ?=
ROOM    ?=
RESULTS := build/results

CONFIGURE = tools/quiet build/$*/configure.log cmake --preset $*
SOURCES   = git ls-files '*.hpp' '*.cpp'

.PHONY: help
help: ## list the commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

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
suite-%: RESULT = $*
suite-%: build-%
	@tools/run_tests build/$* $(RESULTS)/$(RESULT).xml -j $(JOBS) $(CTEST_ARGS)

.PHONY: release
release: ## the release build (also just `make`)
	@tools/setup run
	@$(MAKE) build-release

.PHONY: asan tsan lto shared clang aarch64
asan: ## build with AddressSanitizer and UndefinedBehaviorSanitizer, run unit and stress tests
	@$(MAKE) suite-asan CTEST_ARGS="-L 'unit|stress|death'"
tsan: ## build with ThreadSanitizer, run unit tests
	@$(MAKE) suite-tsan CTEST_ARGS="-L 'unit|death'"
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

.PHONY: hardened
hardened: ## check the release's hardening, assembly included
	@$(MAKE) build-release
	@tools/hardened $(CURDIR)/build/release

.PHONY: setup
setup: ## install all packages that any command needs
	@tools/setup run test ci bench

# What CI does beyond `make test`, in this order. A stage that fails does not stop the next.
# Not yet among them, since they have not passed over all rooms: clang lto shared aarch64.
CI_STAGES := tidy format-check release hardened install-test asan tsan

.PHONY: ci
ci: ## what CI does beyond the tests
	@tools/setup ci
	@rm -f $(RESULTS)/failed
	@for stage in $(CI_STAGES); do tools/stage $$stage $(MAKE) $$stage || touch $(RESULTS)/failed; done
	@[ ! -e $(RESULTS)/failed ]

.PHONY: clean
clean: ## remove everything built
	@rm -rf build
