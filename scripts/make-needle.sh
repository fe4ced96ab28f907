#!/bin/sh
# Writes one retrieval record for the demo model: a number hidden in a long text, and a question
# about it. The same arguments give the same bytes on every machine.
#
#   scripts/make-needle.sh [-k varied|repeated|words] [-b BYTES] [-d DEPTH] [-s SEED]
#
#   -k  haystack: sentences drawn from a small grammar (default), one passage over and over, or
#       sentences of random words
#   -b  length of the haystack in bytes, default 100000
#   -d  where the number is hidden: percent of the haystack before it, default 50
#   -s  seed of the sentences, the key and the number, default 1
#
# "length" of the record is the haystack in bytes of its JSON spelling.
#
# The samples in configs/ are made by
#   scripts/make-needle.sh -b 12000 -s 4 > configs/data4k.json
#   scripts/make-needle.sh -b 103000 -s 32 > configs/data32k.json
set -eu

kind=varied bytes=100000 depth=50 seed=1
while getopts k:b:d:s: option; do
    case $option in
    k) kind=$OPTARG ;;
    b) bytes=$OPTARG ;;
    d) depth=$OPTARG ;;
    s) seed=$OPTARG ;;
    *) exit 2 ;;
    esac
done
case $kind in
varied | repeated | words) ;;
*) echo "make-needle.sh: -k $kind: expected varied, repeated or words" >&2; exit 2 ;;
esac

LC_ALL=C exec awk -v kind="$kind" -v bytes="$bytes" -v depth="$depth" -v seed="$seed" '
# Lehmer generator: exact in doubles, unlike rand(), which differs from one awk to the next.
function random(n)
{
    state = (state * 16807) % 2147483647
    return int(state / 2147483647 * n)
}

function pick(list,    n, words)
{
    n = split(list, words, "|")
    return words[1 + random(n)]
}

function capital(s)
{
    return toupper(substr(s, 1, 1)) substr(s, 2)
}

function noun_phrase()
{
    return pick("the|a|every|the old|the young|the tired|the patient|the quiet|one|another") " " \
        pick(people)
}

function varied_sentence(    form)
{
    form = random(6)
    if (form == 0) {
        return capital(noun_phrase()) " " pick(acts) " " pick(things) " " pick(places) "."
    }
    if (form == 1) {
        return capital(pick(times)) " " noun_phrase() " " pick(acts) " " pick(things) "."
    }
    if (form == 2) {
        return "There was " pick(weather) " " pick(places) ", and " noun_phrase() " " pick(acts) \
            " " pick(things) "."
    }
    if (form == 3) {
        return capital(pick(things)) " lay " pick(places) " until " noun_phrase() " came by."
    }
    if (form == 4) {
        return "Nobody " pick(places) " knew why " noun_phrase() " " pick(acts) " " \
            pick(things) "."
    }
    return capital(noun_phrase()) " and " noun_phrase() " talked about " pick(things) " " \
        pick(times) "."
}

function words_sentence(    s, n)
{
    s = pick(people)
    for (n = 4 + random(9); n > 0; n--) {
        s = s " " pick(random(2) ? bare : people)
    }
    return capital(s) "."
}

function sentence()
{
    if (kind == "repeated") {
        return "The bread is warm. The lamp is lit. The door is open. We sat down. " \
            "The rain kept on.\\n"
    }
    return (kind == "varied" ? varied_sentence() : words_sentence()) (random(8) ? " " : "\\n")
}

function haystack(length_wanted,    text, s)
{
    text = ""
    while (length(text) < length_wanted) {
        text = text sentence()
    }
    return text
}

BEGIN {
    people = "miller|baker|sailor|teacher|carpenter|gardener|shepherd|clerk|painter|doctor|" \
        "weaver|fisherman|farmer|driver|builder|singer|neighbour|traveller|child|guard"
    acts = "carried|counted|painted|mended|hid|sold|found|weighed|cleaned|borrowed|watched|" \
        "measured|remembered|wrapped|moved|forgot"
    things = "the copper kettle|three baskets of apples|a bundle of letters|the broken clock|" \
        "two wooden chairs|a box of nails|the long rope|some dry bread|a blue blanket|" \
        "the garden tools|an empty barrel|the winter coats|a jar of honey|the map of the coast|" \
        "the bag of seed|a pair of boots"
    places = "by the river|behind the mill|under the bridge|near the station|in the kitchen|" \
        "on the hill|beside the well|at the market|along the wall|in the harbour|" \
        "outside the gate|above the shop"
    times = "before sunrise|after the storm|late in the evening|on the second day|" \
        "at the end of the week|during the harvest|when the bell rang|in the middle of winter"
    weather = "fog|heavy rain|a cold wind|bright sunshine|fresh snow|thunder"
    bare = "kettle|basket|letter|clock|chair|nail|rope|bread|blanket|barrel|honey|boots|river|" \
        "bridge|kitchen|market|harbour|window|candle|orchard|paper|stone|feather|wagon"

    state = 1 + seed * 7919
    random(2)
    key = pick("amber|silver|hollow|gentle|narrow|distant|wooden|frozen") "-" \
        pick("lantern|meadow|anchor|thimble|sparrow|chimney|pebble|compass")
    number = 1000000 + random(9000000)
    before = haystack(bytes * depth / 100)
    after = haystack(bytes - length(before))

    sub(/( |\\n)$/, "", after)
    printf "{\"index\": 0, \"input\": \"<|start_header_id|>user<|end_header_id|>\\n\\n"
    printf "A special magic number is hidden within the following text. " \
        "Make sure to memorize it. I will quiz you about the number afterwards.\\n"
    printf "%sOne of the special magic numbers for %s is: %d.%s%s\\n", before, key, number,
        kind == "repeated" ? "\\n" : " ", after
    printf "What is the special magic number for %s mentioned in the provided text?<|eot_id|>" \
        "<|start_header_id|>assistant<|end_header_id|>\\n\\n" \
        "The special magic number for %s mentioned in the provided text is\", ", key, key
    printf "\"outputs\": [\"%d\"], \"others\": {}, \"truncation\": -1, \"length\": %d}\n", number,
        length(before) + length(after)
}'
