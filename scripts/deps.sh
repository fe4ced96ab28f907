#!/usr/bin/env bash
# Installs the Debian (or Ubuntu) packages that are missing to build; `deps.sh check` also those that
# only tests need when they run, `deps.sh fuzz` those of scripts/fuzz.sh, `deps.sh tsan` those of the
# preset tsan, `deps.sh faults` those of tests/faults. Says nothing when there are none. Without root it
# prints the command to run and exits 1.
set -euo pipefail

packages=(
    gcc libc6-dev cmake ninja-build pkg-config # build
    libstarpu-dev                              # task runtime
    libopenmpi-dev openmpi-bin                 # several ranks; the build does without
    libhwloc-dev                               # topology, binding
    libdnnl-dev                                # bf16 GEMM
    libcjson-dev                               # JSON
    libpcre2-dev libutf8proc-dev               # tokenizer
    libmicrohttpd-dev                          # HTTP of serve
    libxxhash-dev                              # checksums of kept prompts
    libcmocka-dev                              # tests
)

# Tests of serve: curl, and node with npm, unless there is another one than the system's.
if [[ ${1:-} == check ]]; then
    packages+=(curl)
    { command -v node && command -v npm; } >/dev/null || packages+=(nodejs npm)
fi

# The test of the report's page; Ubuntu has it as a snap only, and skips the test.
if [[ ${1:-} == check ]] && grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
    packages+=(chromium)
fi

if [[ ${1:-} == fuzz ]]; then
    packages+=(clang libclang-rt-14-dev)
elif [[ ${1:-} == tsan ]]; then
    packages+=(clang libclang-rt-14-dev libomp-dev)
elif [[ ${1:-} == faults ]]; then
    packages+=(strace)
fi

# CUDA's host compiler, and what scripts/build-starpu.sh needs.
if "$(dirname "$0")/cuda-home.sh" >/dev/null; then
    packages+=(g++ make dpkg-dev libfxt-dev)
fi

# The client that a test of serve is, as tests/serve/package-lock.json pins it, into build/openai.
install_client() {
    local from to
    from=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/serve" && pwd)
    to=$from/../../build/openai
    if [[ ! -d $to/node_modules ]] || ! cmp -s "$from/package-lock.json" "$to/package-lock.json"; then
        echo 'deps.sh: installing npm packages of tests/serve into build/openai' >&2
        mkdir -p "$to"
        cp "$from"/package{,-lock}.json "$to"
        npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund --silent
    fi
}

if ! command -v dpkg-query >/dev/null; then
    echo "deps.sh: not a Debian system; needed, by their Debian names: ${packages[*]}" >&2
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || true
    if [[ $status != installed ]]; then
        missing+=("$package")
    fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
    [[ ${1:-} != check ]] || install_client
    exit 0
fi

if [[ $(id -u) -ne 0 ]]; then
    echo "deps.sh: packages are missing; install them with:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "deps.sh: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends "${missing[@]}"
[[ ${1:-} != check ]] || install_client
