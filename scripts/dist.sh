#!/usr/bin/env bash
# Packs what `make dist` built into build/magicpig-pipe-VERSION-linux-ARCH.tar.xz: the program, the
# library and its header, the libraries they load, the demo model and the configurations. It runs wherever it is unpacked, on a
# C library as new as this machine's. The C library, CUDA's libraries and its driver stay the
# machine's own.
set -euo pipefail
cd "$(dirname "$0")/.."

not_packed='^(ld-linux.*|lib(c|m|dl|pthread|rt|resolv|util|mvec|cuda|cudart|cublas|cublasLt|nvidia-ml))\.'

command -v xz >/dev/null || { echo 'dist.sh: needs xz (Debian: xz-utils)' >&2; exit 1; }
version=$(build/release/magicpig-pipe --version | awk '{ print $NF; exit }')
name=magicpig-pipe-$version
archive=build/$name-linux-$(uname -m).tar.xz
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
dist=$folder/$name

cmake --install build/release --prefix "$dist" --strip >/dev/null
mkdir -p "$dist/lib" "$dist/licenses" "$dist/models"

# A line of ldd: NAME => PATH (ADDRESS).
ldd build/release/magicpig-pipe | awk '$2 == "=>" { print $1, $3 }' | grep -Ev "$not_packed" |
    while read -r library path; do
        [[ -e $path ]] || { echo "dist.sh: $library is not found" >&2; exit 1; }
        # The build's own StarPU is there already, as it was built.
        [[ -e $dist/lib/$library ]] || install -m 644 "$path" "$dist/lib/$library"
        strip --strip-unneeded "$(readlink -f "$dist/lib/$library")"
        # Debian keeps each package's licence; StarPU with CUDA has that of its CPU build.
        package=$(dpkg-query --search "*/$library" | sed 's/:.*//' | head -n 1)
        cp "/usr/share/doc/$package/copyright" "$dist/licenses/$package"
    done
cp core/tokenizer/unicode/LICENSE "$dist/licenses/unicode-data"
cp -r models/demo "$dist/models/"
cp -r configs README.md LICENSE "$dist/"
tar -C "$folder" -cJf "$archive" --sort=name --owner=0 --group=0 "$name"

# It must run from elsewhere, with nothing of this environment.
mkdir "$folder/elsewhere"
tar -C "$folder/elsewhere" -xJf "$archive"
cd "$folder/elsewhere"
env -i "$name/bin/magicpig-pipe" --config "$name/configs/magicpig_config.json" \
    --input "$name/configs/data4k.json" >/dev/null 2>log ||
    { cat log; echo "dist.sh: the packed program does not run" >&2; exit 1; }
cd - >/dev/null
echo "$archive"
