#!/usr/bin/env bash
# The library as another project uses it: installed into an empty folder, found by pkg-config, its
# header compiled alone, the example linked and run; it exports its own names only.
# Usage: test_library.sh BUILD_FOLDER PROGRAM COMPILER [FLAGS...]
set -euo pipefail
build=$1 program=$2 cc=("${@:3}")
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "$*"
    exit 1
}

cmake --install "$build" --prefix "$folder/prefix" >/dev/null
export PKG_CONFIG_PATH=$folder/prefix/lib/pkgconfig
read -ra cflags <<<"$(pkg-config --cflags magicpig)"
read -ra libs <<<"$(pkg-config --libs magicpig)"
static=$(pkg-config --static --libs magicpig)
read -ra static_libs <<<"${static/-lmagicpig/-l:libmagicpig.a}"

# The header alone: in C99 and, where there is a compiler, in C++.
echo '#include <magicpig.h>' >"$folder/alone.c"
"${cc[@]}" -std=c99 -pedantic -Wall -Wextra -Werror "${cflags[@]}" -c "$folder/alone.c" \
    -o "$folder/alone.o"
if command -v c++ >/dev/null; then
    printf '%s\n' '#include <magicpig.h>' 'int main() { return mp_version() == nullptr; }' \
        >"$folder/alone.cc"
    c++ "${cc[@]:1}" -std=c++11 -pedantic -Wall -Wextra -Werror "${cflags[@]}" "$folder/alone.cc" \
        "${libs[@]}" -Wl,-rpath,"$folder/prefix/lib" -o "$folder/alone"
    "$folder/alone" || fail 'the C++ program does not run'
fi

# What it exports is what the header declares.
nm -D --defined-only "$folder/prefix/lib/libmagicpig.so" | awk '{ print $NF }' | sort >"$folder/names"
grep -o '^MP_API.*' "$folder/prefix/include/magicpig/magicpig.h" | grep -o 'mp_[a-z_]*(' | tr -d '(' |
    sort >"$folder/declared"
diff "$folder/declared" "$folder/names" || fail 'exported names (>) are not the declared ones (<)'

# The example answers as the program does.
sed -n 's/.*"input": "\(.*\)", "outputs".*/\1/p' "$source/configs/data4k.json" >"$folder/quoted"
printf '%b' "$(<"$folder/quoted")" >"$folder/prompt.txt"
[[ -s $folder/prompt.txt ]] || fail 'no prompt found in data4k.json'
"$program" --config "$source/configs/magicpig_config.json" --input "$source/configs/data4k.json" \
    >"$folder/expected" 2>"$folder/log" || fail "the program fails: $(<"$folder/log")"
example=$folder/prefix/share/magicpig/example.c
"${cc[@]}" "${cflags[@]}" "$example" "${libs[@]}" -Wl,-rpath,"$folder/prefix/lib" \
    -o "$folder/example"
"${cc[@]}" "${cflags[@]}" "$example" "${static_libs[@]}" -o "$folder/example_static"
for way in example example_static; do
    "$folder/$way" "$source/models/demo" "$folder/prompt.txt" >"$folder/found" 2>"$folder/log" ||
        fail "$way fails: $(<"$folder/found") $(<"$folder/log")"
    diff "$folder/expected" "$folder/found" || fail "$way: the answer (>) is not the program's (<)"
    [[ ! -s $folder/log ]] || fail "$way writes to stderr: $(<"$folder/log")"
done
"$folder/example" /no/such/model "$folder/prompt.txt" >"$folder/found" && fail 'no model, no error'
grep -q 'no/such/model' "$folder/found" || fail "the error does not name the model: $(<"$folder/found")"
echo "library: $(wc -l <"$folder/names") functions exported; answered:$(<"$folder/expected")"
