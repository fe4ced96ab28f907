#!/usr/bin/env bash
# Builds StarPU with CUDA, FxT and MPI into build/starpu. Debian's package has neither CUDA nor FxT,
# so this takes the distribution's own source package, in the version of the installed libstarpu-dev.
# Says little; build/starpu.log has the rest. Quick when there is nothing to do, or no CUDA toolkit.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
prefix=$root/build/starpu
work=$root/build/starpu-source
log=$root/build/starpu.log

cuda=$(scripts/cuda-home.sh) || exit 0
cuda_version=$("$cuda/bin/nvcc" --version | sed -n 's/.*, V\([0-9.]*\)$/\1/p')
version=$(dpkg-query --show --showformat='${source:Version}' libstarpu-dev)

# Sizes: one CPU worker a NUMA node and as many as anyone asks for, a node's GPUs, the buffers of a
# layer's task. What we do not use is off, so that the result does not depend on what is installed.
flags=(
    --enable-cuda "--with-cuda-dir=$cuda" --with-fxt
    --enable-maxcpus=256 --enable-maxcudadev=8 --enable-maxbuffers=16
    --disable-opencl --disable-socl --disable-starpufft --disable-fortran --disable-hdf5
    --disable-glpk --disable-build-doc --disable-build-examples --disable-build-tests
    --disable-static
)

# What a build depends on; kept beside its result.
stamp="StarPU $version, CUDA $cuda_version, ${flags[*]}, $(sha256sum <scripts/build-starpu.sh)"

fail() {
    echo "build-starpu.sh: $*; see $log" >&2
    exit 1
}

quietly() { # quietly WHAT COMMAND...: runs the command into the log
    local what=$1
    shift
    echo "## $*" >>"$log"
    "$@" >>"$log" 2>&1 || fail "$what failed"
}

# The machine's apt sources as sources of source packages, in a folder of their own: neither apt's
# configuration nor its lists change.
apt_sources() {
    local list main="" folder="" parts=$work/apt/parts
    mkdir -p "$parts" "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    eval "$(apt-config shell main Dir::Etc::sourcelist/f folder Dir::Etc::sourceparts/d)"
    shopt -s nullglob
    for list in "$main" "$folder"/*.list; do
        if [[ -e $list ]]; then
            sed -nE 's/^[[:space:]]*deb([[:space:]])/deb-src\1/p' "$list" \
                >"$parts/$(basename "$list")"
        fi
    done
    for list in "$folder"/*.sources; do
        sed -E 's/^Types:.*/Types: deb-src/' "$list" >"$parts/$(basename "$list")"
    done
    shopt -u nullglob
}

own_apt() {
    apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$work/apt/parts" -o Dir::State::lists="$work/apt/lists" \
        -o Dir::Cache="$work/apt/cache" "$@"
}

# Leaves the unpacked source in $work/source.
fetch() {
    apt_sources
    # One of the machine's sources may carry no source packages; whether ours came shows below.
    own_apt update >>"$log" 2>&1 || true
    cd "$work"
    quietly "fetching the source package starpu=$version (is libstarpu-dev up to date?)" \
        own_apt --only-source source "starpu=$version"
    mv starpu-*/ source
    cd "$root"
}

# CUDA 13 has neither cuBLAS's first interface nor cudaDeviceProp::computeMode. StarPU's own handles
# use the second interface; what is dropped here set up the first one, which nothing of ours calls.
# With FxT, StarPU keeps a record of every task that has read a buffer until one writes it, which
# nobody does to a weight: only where such a trace is being written.
port() {
    local dependencies=src/core/dependencies/implicit_data_deps.c
    edit $dependencies 's/^#ifndef STARPU_USE_FXT$/#if 1/
        s/_starpu_bound_recording\>/(& || _starpu_fxt_started)/'
    local driver=src/drivers/cuda
    edit $driver/driver_cuda.h 's/<cublas\.h>/<cublas_v2.h>/'
    edit $driver/starpu_cublas.c 's/<cublas\.h>/<cublas_v2.h>/'
    edit $driver/starpu_cublas.c 's/cublasStatus(_t)? cublasst = cublasInit\(\);/int cublasst = 0;/'
    edit $driver/starpu_cublas.c 's/cublasSetKernelStream\(.*\);/;/'
    edit $driver/starpu_cublas.c 's/cublasShutdown\(\);/;/'
    edit $driver/driver_cuda.c 's/props\[devid\]\.computeMode == cudaComputeModeExclusive/0/'
}

edit() { # edit FILE SED: StarPU 1.3 and 1.4 do not have the same text everywhere
    local file=$work/source/$1
    sed -E -i.orig "$2" "$file"
    if cmp -s "$file" "$file.orig"; then
        echo "## $1: nothing to edit by $2" >>"$log"
    else
        echo "## $1: edited by $2" >>"$log"
    fi
}

build() {
    mkdir "$work/build"
    cd "$work/build"
    # The loader finds CUDA's libraries where they are now, even if no ld.so.conf names them; an
    # old-style path leaves the program's own path in force.
    quietly 'its configure' ../source/configure CC=gcc CXX=g++ NVCC="$cuda/bin/nvcc" \
        LDFLAGS="-Wl,--disable-new-dtags,-rpath,$cuda/lib64" ac_cv_lib_cusparse_cusparseCreate=no \
        --prefix="$prefix" --libdir="$prefix/lib" "${flags[@]}"
    # Debian's patches touch files that automake would want to run again for.
    local no_autotools=(ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=:)
    quietly 'its make' make -j"$(nproc)" "${no_autotools[@]}"
    rm -rf "$prefix"
    quietly 'its installation' make install "${no_autotools[@]}"
    cd "$root"
    # The folder may be copied elsewhere with the tree.
    sed -i "s|$prefix|\${pcfiledir}/../..|" "$prefix"/lib/pkgconfig/*.pc
    rm "$prefix"/lib/*.la
}

verify() {
    local config
    config=$(find "$prefix/include" -name starpu_config.h)
    for feature in STARPU_USE_CUDA STARPU_USE_FXT STARPU_USE_MPI; do
        grep -qE "^#define $feature 1" "$config" || fail "the result lacks $feature"
    done
}

mkdir -p build
exec 9>build/starpu.lock
flock 9 # two makes at once
if [[ -e $prefix/stamp && $(<"$prefix/stamp") == "$stamp" ]]; then
    exit 0
fi
echo "build-starpu.sh: building StarPU $version with CUDA $cuda_version, some minutes, once" >&2
rm -rf "$work"
mkdir "$work"
: >"$log"
fetch
port
build
verify
echo "$stamp" >"$prefix/stamp"
rm -rf "$work"
