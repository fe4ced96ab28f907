#!/usr/bin/env bash
# Runs the 60 prompts of ruler_8192.jsonl with full attention, three (K, L) of magicpig, topk, oracle
# and quest, and compares the mean score and the mean sampled fraction with an independent
# implementation's, which ran the same prompts with other random numbers. Exit status 1 if a score is
# more than 5 points away or a fraction more than 15 %.
#
#   tests/acceptance/ruler.sh BINARY [FLAGS...]     about 25 minutes on 2 cores with AVX2
set -euo pipefail

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
binary=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The reference's mean score in %, its mean sampled fraction in % (- : all, or not compared), flags. Of
# the oracle it counts draws; here a token that is drawn again counts once.
methods="77.7 - --attention full
72.3 3.3 --lsh-k 10 --lsh-l 150
79.4 5.8 --lsh-k 9 --lsh-l 120
75.2 7.0 --lsh-k 8 --lsh-l 75
77.4 2.0 --attention topk --attention-budget 0.02
77.7 - --attention oracle --attention-budget 0.02
62.9 5.0 --attention quest --attention-budget 0.05 --page-size 16"

status=0
run=0
printf '%8s %10s %10s %12s\n' score reference sampled reference
while read -r score fraction flags; do
    run=$((run + 1))
    # shellcheck disable=SC2086  # flags are words
    "$binary" --config "$source_dir/configs/magicpig_config.json" \
        --input "$source_dir/tests/data/golden/demo/ruler_8192.jsonl" \
        --output "$work/$run.jsonl" $flags --quiet "$@" >"$work/text" 2>"$work/log" || {
        cat "$work/log" >&2
        exit 1
    }
    awk -v flags="$flags" -v score="$score" -v fraction="$fraction" '
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
            printf "%7.1f%% %9.1f%% %9.2f%% %11s%%  %s  %s\n", sum, score, sampled, fraction,
                bad ? "FAILED" : "ok", flags
            exit bad
        }' "$work/$run.jsonl" || status=1
done <<<"$methods"
exit $status
