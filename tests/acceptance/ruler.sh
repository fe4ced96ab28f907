#!/usr/bin/env bash
# Evaluates the 60 prompts of ruler_8192.jsonl with full attention, three (K, L) of magicpig, topk, oracle
# and quest, and compares the mean score and the mean sampled fraction with an independent
# implementation's, which ran the same prompts with other random numbers. Exit status 1 if a score is
# more than 5 points away or a fraction more than 10 %.
#
#   tests/acceptance/ruler.sh BINARY [FLAGS...]     seconds on a GPU, 10 minutes on 2 cores
set -euo pipefail

source_dir=$(cd "$(dirname "$0")/../.." && pwd)
binary=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The reference's mean score in %, its mean sampled fraction in % (- : all, or not compared), the method
# and its K, the setting. Of the oracle it counts draws; here a token that is drawn again counts once.
methods='77.7 - full - attention=full
72.3 3.3 magicpig 10 lsh-k=10 lsh-l=150
79.4 5.8 magicpig 9 lsh-k=9 lsh-l=120
75.2 7.0 magicpig 8 lsh-k=8 lsh-l=75
77.4 2.0 topk - attention=topk attention-budget=0.02
77.7 - oracle - attention=oracle attention-budget=0.02
62.9 5.0 quest - attention=quest attention-budget=0.05 page-size=16'

settings=()
while read -r _ _ _ _ setting; do
    settings+=(--setting "$setting")
done <<<"$methods"
"$binary" eval --config "$source_dir/configs/magicpig_config.json" --batch 4 \
    --input "$source_dir/tests/data/golden/demo/ruler_8192.jsonl" --output "$work/answers.jsonl" \
    "${settings[@]}" "$@"

status=0
printf '\n%8s %10s %10s %12s\n' score reference sampled reference
while read -r score fraction method bits setting; do
    grep "\"method\":\"$method\"" "$work/answers.jsonl" |
        { [[ $bits == - ]] && cat || grep "\"lsh_K\":$bits,"; } |
        awk -v setting="$setting" -v score="$score" -v fraction="$fraction" '
        function field(name,   at) {
            at = index($0, "\"" name "\":")
            return substr($0, at + length(name) + 3) + 0
        }
        { sum += field("score"); sampled += field("sampled"); n++ }
        END {
            sum *= 100 / n; sampled *= 100 / n
            bad = n != 60 || sum < score - 5 || sum > score + 5
            if (fraction != "-") {
                bad = bad || sampled < 0.9 * fraction || sampled > 1.1 * fraction
            }
            printf "%7.1f%% %9.1f%% %9.2f%% %11s%%  %s  %s\n", sum, score, sampled, fraction,
                bad ? "FAILED" : "ok", setting
            exit bad
        }' || status=1
done <<<"$methods"
exit $status
