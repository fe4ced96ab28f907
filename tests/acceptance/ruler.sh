#!/usr/bin/env bash
# Runs the 60 prompts of ruler_8192.jsonl with full attention and three (K, L) and compares the mean
# score and the mean sampled fraction with an independent implementation's, which ran the same
# prompts with other random projections. Exit status 1 if a score is more than 5 points away or a
# fraction more than 15 %.
#
#   tests/acceptance/ruler.sh BINARY [FLAGS...]     about 15 minutes on 2 cores with AVX2
set -euo pipefail

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
binary=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# method: K, L, the reference's mean score in %, its mean sampled fraction in % (- : all)
methods="0 1 77.7 -
10 150 72.3 3.3
9 120 79.4 5.8
8 75 75.2 7.0"

status=0
printf '%-10s %8s %10s %10s %12s\n' "(K, L)" score reference sampled reference
while read -r k l score fraction; do
    "$binary" --config "$source_dir/configs/magicpig_config.json" \
        --input "$source_dir/tests/data/golden/demo/ruler_8192.jsonl" \
        --output "$work/$k.jsonl" --lsh-k "$k" --lsh-l "$l" --quiet "$@" >"$work/text" 2>"$work/log" || {
        cat "$work/log" >&2
        exit 1
    }
    awk -v k="$k" -v l="$l" -v score="$score" -v fraction="$fraction" '
        function field(name,   at) {
            at = index($0, "\"" name "\":")
            return substr($0, at + length(name) + 3) + 0
        }
        { sum += field("score"); sampled += field("sampled_fraction"); n++ }
        END {
            sum *= 100 / n; sampled *= 100 / n
            bad = n != 60 || sum < score - 5 || sum > score + 5
            if (fraction != "-") {
                bad = bad || sampled < 0.85 * fraction || sampled > 1.15 * fraction
            }
            printf "%-10s %7.1f%% %9.1f%% %9.2f%% %11s%%  %s\n", "(" k ", " l ")", sum, score,
                sampled, fraction, bad ? "FAILED" : "ok"
            exit bad
        }' "$work/$k.jsonl" || status=1
done <<<"$methods"
exit $status
