# Cases of make-data.
# shellcheck shell=bash
# shellcheck disable=SC2154  # variables of cli_test.sh and lib.sh

make_data() { # make_data ARGUMENT...: with the demo model
    run make-data --model "$demo" "$@"
}

# Two documents with a question each, as SQuAD and HotpotQA have them.
write_corpora() {
    local question='{"question": "Who?", "answers": [{"text": "Anna"}]}'
    printf '{"data": [{"paragraphs": [{"context": "%s", "qas": [%s]}, {"context": "%s", "qas": []}]}]}\n' \
        'Anna came.' "$question" 'Nobody came.' >squad.json
    printf '[{"question": "Who?", "answer": "Anna", "context": [["A", ["Anna ", "came."]]]}]\n' \
        >hotpot.json
}

case_make_data() {
    make_data --task niah_single_1,niah_multiquery,vt --tokens 1600 --samples 3 --template llama3 \
        --output data.jsonl
    expect_status 0
    expect 'stdout and stderr' "$(cat out err)" ''
    expect_lines 'records' data.jsonl '' 9
    expect_lines 'in order' data.jsonl '^\{"index": 2, "id": "niah_multiquery-2", "task": "niah_multiquery"' 1
    expect_lines 'template' data.jsonl '"input": "<\|start_header_id\|>user' 9
    expect_lines 'four answers' data.jsonl '"outputs": \["[0-9]{7}"(, "[0-9]{7}"){3}\], "max_new_tokens": 128' 3
    expect_lines 'five answers' data.jsonl '"outputs": \["[A-Z]{5}"(, "[A-Z]{5}"){4}\], "max_new_tokens": 30' 3
    expect_lines 'length' data.jsonl '"length": (15(6[89]|[789][0-9])|1600), "target_tokens": 1600\}$' 9

    # The same seed gives the same file, whichever other tasks are made; another one another file.
    make_data --task vt --tokens 1600 --samples 2 --template llama3 --output again.jsonl
    expect 'same records' "$(grep '"vt-[01]"' data.jsonl)" "$(<again.jsonl)"
    make_data --task vt --tokens 1600 --samples 2 --template llama3 --seed 1 --output other.jsonl
    cmp -s again.jsonl other.jsonl && fail 'another seed' 'the same file' 'another one'

    # The demo's own template is Llama 3's, and has the BOS.
    make_data --task vt --tokens 1600 --samples 2 --template model --output own.jsonl
    expect_status 0
    expect_lines 'own template' own.jsonl '"input": "<\|begin_of_text\|><\|start_header_id\|>user<\|end_header_id\|>.*<\|eot_id\|><\|start_header_id\|>assistant<\|end_header_id\|>\\n\\n", "answer_prefix"' 2

    # generate reads it: the prompt is input and answer_prefix, with BOS.
    sed -n 's/"max_new_tokens": [0-9]*/"max_new_tokens": 12/; /"niah_single_1-0"\|"vt-0"/p' data.jsonl >two.jsonl
    generate --input two.jsonl --output answers.jsonl
    expect_status 0
    expect_lines 'answered' answers.jsonl '"prompt_tokens": ?1[45][0-9][0-9]' 2
    expect_lines 'the hidden number' answers.jsonl '"niah_single_1-0".*"score": ?1[.,}]' 1

    # Files of the user's own.
    write_corpora
    printf 'The hill was steep. Nobody climbed it.\n' >essay.txt
    printf '[adjectives]\nodd\n[nouns]\nthing\n' >words.txt
    make_data --task niah_single_2 --tokens 1000 --samples 1 --output own.jsonl --essay essay.txt \
        --words words.txt
    expect_status 0
    expect_lines 'own files' own.jsonl 'hill was steep.*numbers for odd-thing is: ' 1
    make_data --task vt --tokens 1600 --samples 1 --output /dev/stdout
    expect_lines 'to a pipe' out '"id": "vt-0"' 1
}

# Files with many documents, each with its answer: 50 articles of 50 paragraphs, and 250 questions about
# 10 paragraphs each.
many_documents() {
    awk 'BEGIN {
        srand(5)
        split("baker sailor weaver doctor guard painter lantern barrel blanket rope clock map", words, " ")
        for (d = 0; d < 2500; d++) {
            text = ""
            for (i = 0; i < 60 + d % 41; i++)
                text = text words[int(rand() * 12) + 1] " "
            printf "%s", d % 50 ? ", " : (d ? "]}, " : "{\"data\": [") "{\"paragraphs\": [" >"squad.json"
            printf "{\"context\": \"%sIt was name-%d.\", \"qas\": [{\"question\": \"Who was %d?\", ", text, d,
                d >"squad.json"
            printf "\"answers\": [{\"text\": \"name-%d\", \"answer_start\": 0}]}]}", d >"squad.json"
            if (d % 10 == 0)
                printf "%s{\"question\": \"Who was %d?\", \"answer\": \"name-%d\", \"context\": [",
                    d ? "]}, " : "[", d, d >"hotpot.json"
            printf "%s[\"Title %d\", [\"%s\", \"It was name-%d.\"]]", d % 10 ? ", " : "", d, text,
                d >"hotpot.json"
        }
        print "]}]}" >"squad.json"
        print "]}]" >"hotpot.json"
    }'
}

# Every length is what tokenize counts in input and answer_prefix, without BOS, and what is generated: at
# most what was asked for, and at least 98 % of it.
case_make_data_lengths() {
    local tokens samples template
    many_documents
    while read -r tokens samples template; do
        make_data --task all --tokens "$tokens" --samples "$samples" --template "$template" \
            --squad squad.json --hotpot hotpot.json --output data.jsonl
        expect_status 0
        expect_lines "$tokens tokens" data.jsonl '' $((13 * samples))
        {
            echo '['
            sed -E 's/.*"input": (".*)", "answer_prefix": "(.*"), "outputs": .*/\1\2,/; $s/,$//' data.jsonl
            echo ']'
        } >texts.json
        run tokenize --model "$demo" --json texts.json --no-special
        expect_status 0
        sed -E 's/.*"id": "(.*)", "task": .*"max_new_tokens": ([0-9]+), "length": ([0-9]+), .*/\1 \2 \3/' \
            data.jsonl >said
        expect "$tokens tokens: id, prompt, to generate, length" \
            "$(awk '{ print gsub(/,/, "") + 1 }' out | paste -d ' ' - said | awk -v most="$tokens" '
                $1 + $3 != $4 || $4 > most || $4 < 0.98 * most { print $2, $1, $3, $4 }')" ''
    done <<'END'
4096 5 llama3
16384 3 none
131072 1 none
END
}

case_make_data_usage() {
    local vt=(make-data --model "$demo" --task vt --tokens 1600 --samples 1)
    write_corpora
    expect_refusal 2 'make-data needs --task NAMES, --tokens N and --output FILE' make-data --model "$demo"
    expect_refusal 2 'needs --task' make-data --model "$demo" --task vt --tokens 10
    expect_refusal 2 '--task: found "vtt" \(nearest: vt\), expected one of all, niah_single_1' \
        make-data --model "$demo" --task vtt --tokens 10 --output x
    expect_refusal 2 '--task: qa_1 needs --squad FILE' \
        make-data --model "$demo" --task all --tokens 10 --output x
    expect_refusal 2 '--task: qa_2 needs --hotpot FILE' \
        make-data --model "$demo" --task all --squad squad.json --tokens 10 --output x
    expect_refusal 2 '--tokens: found "0", expected a whole number from 1' "${vt[@]}" --tokens 0
    expect_refusal 2 '--samples: found "some"' "${vt[@]}" --samples some
    expect_refusal 2 '--seed: found "-1", expected a whole number from 0' "${vt[@]}" --seed -1
    expect_refusal 2 '--template: found template "chat", expected one of none, ' \
        "${vt[@]}" --output x --template chat
    expect_refusal 2 'make-data has no option --gen-len' "${vt[@]}" --gen-len 3
    expect_refusal 2 'no option --esay \(nearest: --essay\)' "${vt[@]}" --esay x
    expect_refusal 2 'make-data needs --model DIR' make-data --task vt --tokens 1600 --output x
    expect_refusal 2 'tried /absent' "${vt[@]}" --model /absent --output x
    expect_refusal 2 '--output: found the file of --squad, squad.json' \
        "${vt[@]}" --squad squad.json --output squad.json
    expect_refusal 2 '--essay: absent.txt: cannot open' "${vt[@]}" --output x --essay absent.txt
    expect_refusal 2 '--output: absent/x: cannot open for writing' "${vt[@]}" --output absent/x
    printf 'two words\n' >words.txt
    expect_refusal 1 'words.txt:1: found "two words", expected one word' \
        "${vt[@]}" --output x --words words.txt
    expect_refusal 1 'squad.json: expected an array, found an object' \
        "${vt[@]}" --output x --hotpot squad.json
    # What cannot have the length leaves no file.
    expect_refusal 2 '--tokens: found 100, but vt needs at least [0-9]+ with this tokenizer' \
        "${vt[@]}" --tokens 100 --output x
    expect_refusal 2 '--tokens: found 40, but fwe needs at least [0-9]+ with this tokenizer' \
        "${vt[@]}" --task fwe --tokens 40 --output x
    expect_refusal 2 '--squad: qa_1 has [0-9]+ tokens with all the documents, expected 1600' \
        "${vt[@]}" --task qa_1 --squad squad.json --output x
    [[ ! -e x ]] || fail 'after errors' 'a file' 'no file'
}

# A file with a part of the samples is not left.
case_make_data_interrupt() {
    : >err
    command=make-data
    "$binary" make-data --model "$demo" --task niah_single_2 --tokens 65536 --samples 100000 \
        --output data.jsonl >out 2>err &
    child=$!
    until compgen -G "data.jsonl.$child-*.new" >files || ! kill -0 "$child"; do sleep 0.05; done
    wait_for "$(<files)" '"index": 0'
    rm files
    kill -INT "$child"
    wait_child
    expect status "$status" 130
    expect 'files of an interrupted run' "$(echo *)" 'err out'
}

# A line that cannot be written ends the run with the reason. The file goes; a link and a device stay.
case_make_data_full_disk() {
    local link vt=(make-data --model "$demo" --task vt --tokens 1600 --samples 9)
    [[ -c /dev/full ]] || exit 77
    expect_refusal 1 '/dev/full: cannot write: No space left on device$' "${vt[@]}" --output /dev/full
    [[ -c /dev/full ]] || fail 'the device' 'gone' 'still there'
    ln -s data.jsonl link.jsonl
    for link in data.jsonl link.jsonl; do
        status=0
        command="$link, a limit of 20 KiB"
        (ulimit -f 20 && "$binary" "${vt[@]}" --output "$link") >out 2>err || status=$?
        check_crash "$command"
        expect_status 1
        expect_match "$command" err "^magicpig-pipe: error: $link: cannot write: File too large\$"
        expect_lines "$command" err '' 1
        [[ $link == link.jsonl || ! -e data.jsonl ]] || fail "$command" 'a file' 'no file'
    done
    [[ -L link.jsonl && -e data.jsonl && ! -s data.jsonl ]] ||
        fail "$command" "$(ls -l)" 'the link to an empty file'
}
