# Shortcuts; CMake does the work (CMakePresets.json). `make` lists them.

CONFIG := configs/magicpig_config.json
INPUT := configs/data32k.json
PREFIX := /usr/local
SECONDS := 60
STEP := 1
KILLS := 100

# What `make install` and `make dist` take from a build.
INSTALLED := magicpig-pipe magicpig magicpig_static

.PHONY: help build demo check fuzz fuzz-serve faults asan tsan install dist format clean deps check-deps starpu
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST)

build: build/release/build.ninja ## build the program and its tests into build/release
	cmake --build --preset release

demo: build/release/build.ninja ## build, then answer a 32K-token prompt with the embedded model
	cmake --build --preset release --target magicpig-pipe
	build/release/magicpig-pipe --config $(CONFIG) --input $(INPUT)

check: build check-deps ## build and run all tests
	ctest --preset release

fuzz: ## SECONDS, or RUNS inputs, for each fuzz target or TARGETS: what crashes, hangs or confuses parsers
	scripts/fuzz.sh $(if $(RUNS),--runs $(RUNS),$(SECONDS)) $(TARGETS)

fuzz-serve: build/asan/build.ninja check-deps ## RUNS (a million) changed requests to a server under the sanitizers
	cmake --build --preset asan --target magicpig-pipe
	FUZZ_REQUESTS=$(or $(RUNS),1000000) tests/e2e/cli_test.sh build/asan/magicpig-pipe . build/fuzz serve_fuzz

faults: build deps-faults ## every fault of a short run (every STEP-th of them), and KILLS kills: an hour
	tests/faults/faults.sh build/release/magicpig-pipe build/release/tests/faults/libfail_alloc.so . \
	    build/faults $(STEP)
	tests/faults/kills.sh build/release/magicpig-pipe . build/kills $(KILLS)

asan: build/asan/build.ninja check-deps ## all tests under the address and undefined-behaviour sanitizers
	cmake --build --preset asan
	ctest --preset asan

tsan: check-deps | deps-tsan ## the unit tests and those of serve under the thread sanitizer (clang)
	cmake --preset tsan
	cmake --build --preset tsan
	ctest --preset tsan -R '^(core|codelets|models|tasks|pipeline)\.|^e2e\.serve'

install: build/release/build.ninja ## program, library and header below PREFIX (/usr/local)
	cmake --build --preset release --target $(INSTALLED)
	cmake --install build/release --prefix $(PREFIX)

dist: build/release/build.ninja ## an archive that runs on other machines, in build
	cmake --build --preset release --target $(INSTALLED)
	scripts/dist.sh

format: ## put every C file into the project's format
	git ls-files -z '*.c' '*.h' '*.cu' '*.cuh' | xargs -0 clang-format -i

clean: ## remove everything that was built
	rm -rf build

# Installs missing packages; silent and quick when there are none.
deps:
	@scripts/deps.sh

check-deps:
	@scripts/deps.sh check

deps-%:
	@scripts/deps.sh $*

# With a CUDA toolkit, StarPU with CUDA into build/starpu; silent and quick when it is there.
starpu: deps
	@scripts/build-starpu.sh

build/release/build.ninja: | starpu

build/%/build.ninja: CMakePresets.json | deps
	cmake --preset $*
