# Cases of eval and eval attention: their tables and files, comparisons, what is refused and what fails.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh, lib.sh and eval.sh

# ---- attention ----

# A column of the table of settings, from the left, of the last run.
column() { # column N
    sed -nE 's/^  \[[0-9]+\] .{'"$(name_width)"'}//p' out | awk -v n="$1" '{ print $n }' | paste -sd ' '
}

# Of the names, right of their numbers.
name_width() {
    sed -nE '/^  setting/{ s/^  (setting +)(score|error).*/\1/p; q }' out | awk '{ print length($0) - 4 }'
}

case_eval_attention() {
    local arguments=(eval attention --model "$demo" --task 'niah_single_1,vt' --tokens 1024 --samples 1
        --setting attention=full --setting 'attention=topk attention-budget=1'
        --setting 'lsh-k=6 lsh-l=60' --setting 'attention=streaming cache-layers=0,3'
        --setting attention=streaming)
    run "${arguments[@]}" --csv errors.csv --html errors.html --quiet
    expect_status 0
    expect 'stderr' "$(<err)" ''
    expect_match 'tokens' out '^[0-9]+ tokens of 2 prompts$'
    expect_match 'full attention' out '^  \[1\] full +- +- +- +[0-9]+$'
    # The error that all tokens leave, some and none.
    column 1 |
        awk '$1 == "-" && $2 > 0 && $2 < 1 && $3 > $2 && $4 > 2 * $3 { good = 1 } END { exit !good }' ||
        fail 'errors' "$(column 1)" 'all tokens below 1 %, streaming the worst'
    expect_match 'all tokens' out '^  \[2\] topk, budget 100 % +0\.[0-9]+ +[0-9.]+ +100\.00 +[0-9]+$'
    # A dense layer has none.
    expect_match 'layer 0' out '^ +0 +- +- +- +- +-$'
    expect_match 'layer 3' out '^ +3 +- +0\.[0-9]+ +[0-9.]+ +- +[0-9.]+$'
    # Each layer has exact inputs: what the one before makes of its own does not matter.
    expect_lines 'other layers' out '^ +[124567] +- +0\.[0-9]+ +[0-9.]+ +([0-9.]+) +\1$' 6
    expect 'heads of other layers' "$(grep '^"streaming",[12]' errors.csv | cut -d, -f2-)" \
        "$(grep '^"streaming; dense 0, 3",[12]' errors.csv | sed 's/^"[^"]*",//')"
    expect 'heads behind the dense layer' "$(grep '^"streaming",[4-7]' errors.csv | cut -d, -f2-)" \
        "$(grep '^"streaming; dense 0, 3",[4-7]' errors.csv | sed 's/^"[^"]*",//')"
    expect_lines 'CSV' errors.csv '^"[a-z].*",[0-7],[0-7],' $((5 * 8 * 8))
    expect_lines 'CSV: full' errors.csv '^"full",[0-7],[0-7],$' 64
    expect_lines 'CSV: dense' errors.csv '^"streaming; dense 0, 3",[03],[0-7],$' 16
    expect_lines 'CSV: topk' errors.csv '^"topk, budget 100 %",[1-7],[0-7],0\.00[0-9]+$' 56
    expect_match 'page' errors.html '"kind":"attention"'
    expect_match 'page' errors.html '"prompts":2,"tokens":[0-9]+,"layers":8,"heads":8,'
    cp out first
    run "${arguments[@]}" --quiet
    expect 'the same again' "$(<out)" "$(<first)"
    # A part of the tokens, from the question on.
    run "${arguments[@]}" --steps 3 --sparse-from question
    expect_status 0
    expect_match 'three of each' out '^6 tokens of 2 prompts$'
    # What pps estimates of itself is near what is measured, and follows what it is to be.
    run eval attention --model "$demo" --task vt --tokens 2048 --samples 2 --quiet \
        --setting 'attention=pps attention-samples=128' --setting 'attention=pps epsilon=0.1'
    expect_status 0
    local line rms estimate
    for line in 1 2; do
        read -r rms estimate < <(sed -n "s/^  \[$line\] pps.*bits *[0-9.]* *\([0-9.]*\) *\([0-9.]*\) .*/\1 \2/p" out)
        expect_true "estimate $line" "0$estimate < 1.3 * 0$rms && 0$rms < 1.3 * 0$estimate"
    done
    expect_true 'error asked for' "0$rms > 7 && 0$rms < 15"
}

# ---- comparisons ----

case_eval_compare() {
    write_prompts prompts.jsonl niah_single_1,vt
    run_eval --input prompts.jsonl --setting attention=full --output a.jsonl
    expect_status 0
    run_eval --input prompts.jsonl --setting attention=streaming --output b.jsonl
    expect_status 0
    run eval --compare a.jsonl b.jsonl
    expect_status 0
    expect 'stderr' "$(<err)" ''
    expect_lines 'needles' out '^  niah_single_1 niah_single_1-[01]: 100\.0 -> 0\.0$' 2
    expect_match 'text' out '^      a: .*[0-9]{7}'
    expect_match 'scores' out '^a: a.jsonl, score [0-9.]+$'
    expect_match 'scores' out '^b: b.jsonl, score 0\.0$'
    expect_match 'sign test' out \
        '^4 answers in both: a is better in [2-4], b in 0; sign test p = 0\.(5|25|125)$'
    run eval --compare b.jsonl b.jsonl
    expect_status 0
    expect_lines 'the same' out '^4 answers in both: a is better in 0, b in 0; sign test p = 1$' 1
    expect 'the same: lines' "$(wc -l <out)" 3
    head -n 1 a.jsonl >one.jsonl
    tail -n 1 b.jsonl >other.jsonl
    expect_refusal 2 '--compare: one.jsonl and other.jsonl have no prompt in common' \
        eval --compare one.jsonl other.jsonl
    expect_refusal 2 '--compare: absent.jsonl: cannot open' eval --compare a.jsonl absent.jsonl
    expect_refusal 1 'prompts.jsonl:1: found a line that eval does not write' \
        eval --compare a.jsonl prompts.jsonl
    expect_refusal 2 '--compare needs two values' eval --compare a.jsonl
    expect_refusal 2 '--compare needs two values' eval --compare a.jsonl --quiet
    local option
    for option in config input task tokens samples setting output sparse-from csv html lsh-k; do
        printf "{}" >./5
        expect_refusal 2 '--compare: found other options beside it' \
            eval --compare a.jsonl b.jsonl "--$option" 5
    done
}

# ---- what is refused, and what fails ----

case_eval_usage() {
    local verb ask
    printf '{"input": "Hello", "outputs": ["x"]}\n' >records.jsonl
    for verb in eval 'eval attention'; do
        # shellcheck disable=SC2206  # a verb of two words
        ask=($verb --model "$demo")
        expect_refusal 2 "$verb needs --input FILE, or --task NAMES and --tokens N" "${ask[@]}"
        expect_refusal 2 "$verb needs --input FILE" "${ask[@]}" --task vt
        expect_refusal 2 '--tokens makes prompts, but --input names some' \
            "${ask[@]}" --input records.jsonl --tokens 1024
        expect_refusal 2 '--sparse-from: found "prompt", expected answer or question' \
            "${ask[@]}" --input records.jsonl --sparse-from prompt
        expect_refusal 2 '--tokens: found "1024,", expected whole numbers from 1 with commas' \
            "${ask[@]}" --task vt --samples 1 --tokens 1024,
        expect_refusal 2 '--tokens: found 1024 twice' "${ask[@]}" --task vt --samples 1 --tokens 1024,1024
        expect_refusal 2 '--html: absent/page.html: cannot open for writing: No such file' \
            "${ask[@]}" --input records.jsonl --html absent/page.html
        expect_refusal 2 '--csv: absent/scores.csv: cannot open for writing: No such file' \
            "${ask[@]}" --input records.jsonl --csv absent/scores.csv
        expect_refusal 2 '--csv: found the file of --input, records.jsonl, expected another' \
            "${ask[@]}" --input records.jsonl --csv records.jsonl
        expect_refusal 2 '--csv: found the file of --html, x, expected another' \
            "${ask[@]}" --input records.jsonl --csv x --html x
        expect_refusal 2 '--setting "lsh-j=4": .*lsh-k' \
            "${ask[@]}" --input records.jsonl --setting lsh-j=4
        expect_refusal 2 '--setting: found full twice' "${ask[@]}" --input records.jsonl \
            --setting attention=full --setting lsh-k=0
        expect_refusal 2 "$verb has no option --report" "${ask[@]}" --input records.jsonl --report x
        expect_refusal 2 'absent.jsonl' "${ask[@]}" --input absent.jsonl
    done
    ask=(eval --model "$demo")
    expect_refusal 2 '--output: found the file of --input, records.jsonl, expected another' \
        "${ask[@]}" --input records.jsonl --output records.jsonl
    expect_refusal 2 '--output: absent/x: cannot open for writing' \
        "${ask[@]}" --input records.jsonl --output absent/x
    expect_refusal 2 'no model: give --model DIR' eval --input records.jsonl
    expect_refusal 2 '--gen-len: the tasks of --task say how much is generated' \
        "${ask[@]}" --task vt --tokens 1024 --gen-len 3
    expect_refusal 2 '--tokens 70000: the prompt is too long: found 70000 tokens' \
        "${ask[@]}" --task vt --tokens 1024,70000
    printf '{}\n' >mine.json
    expect_refusal 2 '--csv: found the file of --setting, mine.json, expected another' \
        "${ask[@]}" --input records.jsonl --setting 'lsh-k=4 mine.json' --csv mine.json
    expect_refusal 2 'has no option --output' eval attention --model "$demo" --output x
    expect_refusal 2 'has no option --steps' "${ask[@]}" --steps 3
    expect_refusal 2 'has no option --batch' eval attention --model "$demo" --batch 2
    expect_refusal 1 'planned|memory' "${ask[@]}" --input records.jsonl --memory-limit 1MiB
    # Files that are named by mistake stay as they are.
    cp records.jsonl mine.jsonl
    expect_refusal 2 '--output: mine.jsonl:1: found a line that eval does not write' \
        "${ask[@]}" --input records.jsonl --output mine.jsonl
    printf 'no newline' >mine.txt
    expect_refusal 2 '--output: mine.txt:1: found a line that eval does not write' \
        "${ask[@]}" --input records.jsonl --output mine.txt
    expect 'untouched' "$(cat mine.jsonl mine.txt)" "$(<records.jsonl)"$'\nno newline'
    exec 9>>answers.jsonl
    flock 9
    expect_refusal 2 '--output: answers.jsonl: another run writes to it' \
        "${ask[@]}" --input records.jsonl --output answers.jsonl
    exec 9>&-
    expect 'files' "$(echo *)" 'answers.jsonl err mine.json mine.jsonl mine.txt out records.jsonl'
}

# Records that cannot be asked fail the run in the end; the others are answered.
case_eval_records() {
    local verb
    cat >records.jsonl <<'END'
{"id": "good", "input": "Hello world", "outputs": ["x"]}
{"id": "no answers", "input": "Hello"}
{"id": "empty answer", "input": "Hello", "outputs": ["x", ""]}
broken
{"id": "ids", "input_ids": [64, 65, 66], "outputs": ["x"], "task": "mine"}
{"id": "foreign", "input_ids": [64, 99999], "outputs": ["x"]}
END
    run_eval --input records.jsonl --gen-len 3 --eos none --output answers.jsonl --csv scores.csv \
        --setting attention=full --batch 4
    expect_status 1
    expect 'answered' "$(sed 's/^{"id":"\([^"]*\)".*/\1/' answers.jsonl | paste -sd ' ')" 'good ids'
    expect_lines 'three tokens' answers.jsonl '"generated_tokens":3,' 2
    expect_match 'table' out '^  (prompts|mine) +1 '
    # Prompts of 5 and of 3 tokens.
    expect_lines 'CSV' scores.csv '^"full",8,"(mean|prompts)",1,|^"full",4,"(mean|mine)",1,' 4
    for verb in eval 'eval attention'; do
        # shellcheck disable=SC2086  # a verb of two words
        run $verb --model "$demo" --input records.jsonl --setting attention=streaming --cache-layers none
        expect_status 1
        expect_match "$verb" err 'error: prompt no answers: records.jsonl:2: outputs: found none'
        expect_match "$verb" err 'error: prompt empty answer: records.jsonl:3: outputs: found an empty'
        expect_match "$verb" err 'error: prompt 3: records.jsonl:4:'
        expect_match "$verb" err 'error: prompt foreign: records.jsonl:6: token 1: found id 99999, expected 0 to 4095'
        expect_match "$verb" err 'error: 4 of 6 prompts could not be run$'
    done
    sed -n 2,4p records.jsonl >bad.jsonl
    for verb in eval 'eval attention'; do
        # shellcheck disable=SC2086
        run $verb --model "$demo" --input bad.jsonl
        expect_status 1
        expect "$verb: stdout" "$(<out)" ''
        expect_match "$verb" err 'error: none of the 3 prompts can be run$'
    done
    # Room for the prompt, but not for the answer after it.
    awk 'BEGIN { printf "{\"id\": \"long\", \"input_ids\": [64"; for (i = 1; i < 65536; i++) printf ", 64"
        print "], \"outputs\": [\"x\"]}" }' >long.jsonl
    run eval attention --model "$demo" --input long.jsonl
    expect_status 1
    expect_match 'too long' err \
        'error: prompt long: .*found 6553[78] tokens, the model has 65536 positions$'
    expect_match 'too long' err 'error: none of the 1 prompts can be run$'
}

# Answers that cannot be written end the run; what is there is a start for the next one.
case_eval_full_disk() {
    [[ -c /dev/full ]] || exit 77
    write_prompts prompts.jsonl niah_single_1,vt
    run "${evaluation[@]}" --output /dev/full
    expect_status 1
    expect 'stdout' "$(<out)" ''
    expect_match '/dev/full' err 'error: /dev/full: cannot write: No space left on device$'
    run "${evaluation[@]}" --output whole.jsonl
    expect_status 0
    status=0
    command='a limit of 3 KiB'
    (ulimit -f 3 && "$binary" "${evaluation[@]}" --output answers.jsonl) >out 2>err || status=$?
    check_crash "$command"
    expect_status 1
    expect_match "$command" err 'error: answers.jsonl: cannot write: File too large$'
    run "${evaluation[@]}" --output answers.jsonl
    expect_status 0
    expect_whole 'with more room' answers.jsonl
    local option
    for option in csv html; do
        run "${evaluation[@]}" --output answers.jsonl "--$option" /dev/full
        expect_status 1
        expect_match "--$option" err 'error: /dev/full: cannot write: No space left on device$'
    done
    status=0
    command='a full stdout'
    "$binary" "${evaluation[@]}" --output answers.jsonl 2>err >/dev/full || status=$?
    check_crash "$command"
    expect_status 1
    expect_match "$command" err 'error: stdout: cannot write: No space'
    # A pipe can be written to.
    "$binary" "${evaluation[@]}" --output /dev/fd/8 8> >(cat >piped.jsonl) >out 2>err
    status=$? command='a pipe'
    check_crash "$command"
    expect_status 0
    for _ in {1..50}; do
        (($(wc -l <piped.jsonl) < 12)) && sleep 0.1
    done
    expect_whole 'through a pipe' piped.jsonl
}

# Samples of tasks are those that make-data writes.
case_eval_tasks() {
    local arguments=(--setting attention=full --setting attention=streaming --quiet)
    run make-data --model "$demo" --task niah_single_1,fwe --tokens 1024 --samples 1 --seed 5 \
        --template llama3 --output made.jsonl
    expect_status 0
    run_eval --input made.jsonl --output of_file.jsonl "${arguments[@]}"
    expect_status 0
    cp out of_file
    run_eval --task niah_single_1,fwe --tokens 1024 --samples 1 --data-seed 5 --template llama3 \
        --output of_tasks.jsonl "${arguments[@]}"
    expect_status 0
    expect 'answers' "$(timeless of_tasks.jsonl)" "$(timeless of_file.jsonl)"
    expect 'scores' "$(sed 's/ *[0-9.]*$//' out)" "$(sed 's/ *[0-9.]*$//' of_file)"
    # Several lengths, ascending in the tables.
    run_eval --task vt --tokens 1600,800 --samples 1 --output lengths.jsonl --setting attention=full
    expect_status 0
    expect 'lengths' "$(grep -oE '^[0-9]+ tokens' out | paste -sd ' ')" '800 tokens 1600 tokens'
    expect 'in the order given' "$(values lengths.jsonl context | paste -sd ' ')" '1600 800'
}

# ---- a small evaluation ----

# Files with fields between bars: texts are equal, and numbers too, up to the rounding of the one with
# fewer digits.
expect_near() { # expect_near WHAT FOUND WANTED
    awk -F'|' '
        function last_place(number,   exponent) { # 0.01 for 2.50 and for 25.0e-1
            exponent = number ~ /e/ ? substr(number, index(number, "e") + 1) : 0
            sub(/e.*/, "", number)
            return 10 ^ (exponent - (number ~ /\./ ? length(number) - index(number, ".") : 0))
        }
        function near(a, b,   unit) {
            if (a !~ /^-?[0-9][-+.0-9e]*$/ || b !~ /^-?[0-9][-+.0-9e]*$/) return a == b
            unit = last_place(a) > last_place(b) ? last_place(a) : last_place(b)
            return a - b <= 0.51 * unit && b - a <= 0.51 * unit
        }
        NR == FNR { found[FNR] = $0; lines = FNR; next }
        {
            if (split(found[FNR], field) != NF) exit bad = 1
            for (i = 1; i <= NF; i++) if (!near(field[i], $i)) exit bad = 1
        }
        END { exit bad || FNR != lines || lines == 0 }' "$2" "$3" || fail "$1" "$(<"$2")" "$(<"$3")"
}

# Scores as CSV: fields between bars, the quotes of names left out.
unquoted() { # unquoted FILE
    sed -E '1d; s/^"(([^"]|"")*)",([0-9]+),"([^"]*)",/\1|\3|\4|/; :next s/(\|.*),/\1|/; t next' "$1"
}

# Means of what the answers say, by setting and task.
of_answers() {
    local key
    for key in method task score steps decode_seconds; do
        values answers.jsonl "$key" | tr -d '"' >"of_$key"
    done
    paste -d '|' of_method of_task of_score of_steps of_decode_seconds | awk -F'|' '
        { key = $1 "|" $2; n[key]++; sum[key] += $3; steps[key] += $4; time[key] += $5 }
        END { for (k in n) printf "%s|%.12g|%.12g\n", k, sum[k] / n[k], 1000 * time[k] / steps[k] }' |
        sort
}

# Table, CSV file, page and file of answers say the same.
expect_small() {
    unquoted scores.csv >scores
    expect_lines 'rows' scores '^[^|]+\|1024\|(mean\|6|(niah_single_1|vt|fwe)\|2)\|' 16

    of_answers >wanted
    awk -F'|' -v OFS='|' '$3 != "mean" { sub(/[,;].*/, "", $1); print $1, $3, $5, $11 }' scores |
        sort >found
    expect_near 'scores and times by task' found wanted

    awk -F'|' '$3 != "mean" { sum[$1] += $5 / 3 }
        END { for (s in sum) printf "%s|%.12g\n", s, sum[s] }' scores | sort >wanted
    awk -F'|' -v OFS='|' '$3 == "mean" { print $1, $5 }' scores | sort >found
    expect_near 'means of the tasks' found wanted
    expect 'intervals' "$(awk -F'|' '$6 > $5 || $7 < $5 || $6 < 0 || $7 > 1' scores)" ''
    expect 'intervals that are wide' "$(awk -F'|' '$3 == "mean" && $7 > $6 { print $1 }' scores)" \
        'quest, budget 10 %, pages of 8'

    # An empty field is "-" in the table.
    awk -F'|' '$3 == "mean" {
        printf "%s|%.8g|%.8g|%.8g|", $1, 100 * $5, 100 * $6, 100 * $7
        printf "%s|%s|%.8g|%s\n", $9 == "" ? "-" : $9, $8 == "" ? "-" : 100 * $8, $10 / 1024, $11
    }' scores >wanted
    local n='([0-9.]+|-)'
    sed -nE "s/^  \\[[0-9]\\] ([a-z]+.*[^ ]) +$n +$n to $n +$n +$n +$n +$n\$/\\1|\\2|\\3|\\4|\\5|\\6|\\7|\\8/p" \
        out >found
    expect_near 'table' found wanted

    # The page has percent, and null for an empty field.
    grep -o '{"setting":[0-9]*,"length":[^}]*}' scores.html | sed 's/null//g; s/[{}"a-z:]//g' |
        awk -F, -v OFS='|' '{ $5 /= 100; $6 /= 100; $7 /= 100; print $4, $5, $6, $7, $9, $8, $10, $11 }' \
            OFMT=%.17g CONVFMT=%.17g >found
    cut -d'|' -f4- scores >wanted
    expect_near 'page' found wanted
}

# Three tasks with four settings. The pages stay for tests/scripts/test_eval_page.sh.
case_eval_small() {
    local arguments=(--model "$demo" --tokens 1024 --quiet --setting attention=full
        --setting 'lsh-k=8 lsh-l=75' --setting 'attention=quest attention-budget=0.1 page-size=8'
        --setting attention=streaming)
    run eval "${arguments[@]}" --task niah_single_1,vt,fwe --samples 2 --batch 2 --output answers.jsonl \
        --csv scores.csv --html scores.html
    expect_status 0
    expect 'stderr' "$(<err)" ''
    expect_small
    run eval attention "${arguments[@]}" --task vt --samples 1 --csv errors.csv --html errors.html
    expect_status 0
}
