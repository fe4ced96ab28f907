#!/usr/bin/env bash
# scripts/deps.sh with stand-ins for the package tools: what it asks for, and when.
set -euo pipefail
deps=$(cd "$(dirname "$0")/../.." && pwd)/scripts/deps.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

stub() { # stub NAME BODY
    printf '#!/usr/bin/env bash\n%s\n' "$2" >"$folder/$1"
    chmod +x "$folder/$1"
}
stub apt-get "echo \"apt-get \$*\" >>'$folder/calls'"
# shellcheck disable=SC2016  # the stubs expand these when they run
stub id 'echo "$FAKE_UID"'
# dpkg-query's last argument is the package; $ABSENT lists those not installed.
# shellcheck disable=SC2016
stub dpkg-query '[[ " $ABSENT " == *" ${!#} "* ]] && exit 1; printf installed'

run() { # run UID ABSENT: output in $said, status in $status, calls of apt-get in $calls
    : >"$folder/calls"
    status=0
    said=$(FAKE_UID=$1 ABSENT=$2 PATH="$folder:$PATH" "$deps" 2>&1) || status=$?
    calls=$(<"$folder/calls")
}

expect() { # expect WHAT FOUND WANTED
    if [[ $2 != "$3" ]]; then
        printf '%s: found "%s", expected "%s"\n' "$1" "$2" "$3"
        exit 1
    fi
}

run 1000 ''
expect 'nothing missing, status' "$status" 0
expect 'nothing missing, output' "$said" ''
expect 'nothing missing, calls' "$calls" ''

run 1000 'cmake libstarpu-dev'
expect 'no root, status' "$status" 1
expect 'no root, calls' "$calls" ''
expect 'no root, command' "${said##*install --no-install-recommends }" 'cmake libstarpu-dev'

run 0 'libcjson-dev'
expect 'root, status' "$status" 0
expect 'root, calls' "$calls" "apt-get update -qq
apt-get install -qq --no-install-recommends libcjson-dev"

# With a CUDA toolkit, and with one that is too old.
cuda() { # cuda VERSION: a toolkit first in PATH, found before any that this machine has
    mkdir -p "$folder/cuda/bin" "$folder/cuda/include"
    : >"$folder/cuda/include/cuda.h"
    stub cuda/bin/nvcc "echo 'Cuda compilation tools, release $1, V$1.1'"
}
cuda 12.0
PATH=$folder/cuda/bin:$PATH run 1000 'libfxt-dev'
expect 'CUDA, command' "${said##*install --no-install-recommends }" 'libfxt-dev'
home=$(PATH=$folder/cuda/bin:$PATH "$(dirname "$deps")/cuda-home.sh")
expect 'CUDA, folder' "$home" "$folder/cuda"
cuda 11.8
home=$(PATH=$folder/cuda/bin:$PATH "$(dirname "$deps")/cuda-home.sh") || true
if [[ $home == "$folder/cuda" ]]; then
    echo 'CUDA 11.8 was taken'
    exit 1
fi

stub apt-get 'exit 100'
run 0 'libcjson-dev'
expect 'apt-get fails, status' "$status" 100
echo 'deps: 7 cases'
