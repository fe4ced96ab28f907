#!/usr/bin/env bash
# The report's pages in a headless browser: their figures, their table, their timeline, no errors.
# Usage: test_report.sh PROGRAM, which is tests/unit/pipeline/test_report.c: it writes the pages.
# Exits 77 where no browser works.
set -euo pipefail
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

open_page() { # open_page FILE: the document as it is once the page's script has run
    HOME=$folder timeout 60 "$browser" --headless --no-sandbox --disable-gpu --no-first-run \
        --disable-background-networking --user-data-dir="$folder/profile" \
        --window-size=1400,1000 --dump-dom "file://$1" 2>"$folder/log"
}

# Ubuntu's chromium-browser only points at a snap, and a snap cannot read files in /tmp.
browser=
find_browser() {
    echo '<p id="p"></p><script>p.textContent = 6 * 7</script>' >"$folder/probe.html"
    for browser in chromium chromium-browser google-chrome; do
        if command -v "$browser" >/dev/null &&
            [[ $(open_page "$folder/probe.html") == *'<p id="p">42</p>'* ]]; then
            return 0
        fi
    done
    return 1
}
if ! find_browser; then
    echo 'skipped: neither chromium nor google-chrome is here and works'
    exit 77
fi

fail() {
    echo "$page: $*"
    exit 1
}

load() { # load NAME: that page's document in $dom
    page=$1
    dom=$(open_page "$folder/$page") || fail "the browser failed: $(<"$folder/log")"
}

text_of() { # text_of ID: the text of that element, empty without it
    grep -o "id=\"$1\"[^>]*>[^<]*" <<<"$dom" | sed 's/[^>]*>//' || true
}

expect() { # expect ID TEXT: empty: there is no such element
    local found
    found=$(text_of "$1")
    [[ $found == "$2" ]] || fail "$1: found \"$found\", expected \"$2\""
}

rows() { # the table of ops, one line a row, cells separated by spaces
    grep -o '<table id="ops">.*</table>' <<<"$dom" | sed 's/<tr/\n<tr/g' |
        sed -E 's/<[^>]*>/ /g; s/ +/ /g; s/^ //; s/ $//'
}

expect_row() {
    rows | grep -qxF "$1" || fail "no row \"$1\" in: $(rows)"
}

"$program" "$folder"

# All of a page is in its file.
page=gpu.html
[[ $(grep -oE 'https?://[^"]*' "$folder/$page") == http://www.w3.org/2000/svg ]] ||
    fail 'names addresses'

load gpu.html
expect error ''
expect model 'sample, 32 layers, 32/8 heads of 128, 8.0 B parameters'
[[ $dom == *'avx512 with AMX; été € 🐋'* ]] || fail 'lost non-ASCII text'
[[ $dom == *'<code>magicpig-pipe bench --note "&lt;/script&gt;&lt;!-- &lt;script&gt;no()'* ]] ||
    fail 'lost the command'
expect step-median 19.8
expect tokens-per-second 202
expect gpu-busy 80.0
expect cpu-busy 50.0
expect both-busy 34.0
expect overlap-ratio 1.25
expect handover 25.0
expect step-p90 21.5
expect step-p99 22.0
expect sampled-mean 1.64
expect timeline-note 'All 17,680 recorded spans.'
expect shown '20.6 ms shown'
expect_row 'GPU · measured bandwidth 3,170 GB/s'
expect_row 'ffn 2,560 320 8.00 40.0 % 125 2,816 5,600 88.8 %'
expect_row 'hashing 2,400 12.0 0.300 1.5 % 5.00 – –'
expect_row 'sampled_attention 2,400 240 6.00 30.0 % 100 80.0 80.0 74.1 %'
expect_row 'submit 40 12.0 0.300 1.5 % 300 – –'

load cpu.html
expect error ''
expect cpu-busy 96.0
expect overlap-ratio 1.04
expect gpu-busy ''
expect both-busy ''
expect overlap-bar ''

# A prompt was read, no token decoded: a timeline without steps.
load no_steps.html
expect error ''
expect timeline-note 'All 8,880 recorded spans.'
expect shown '833 ms shown'

load empty.html
expect error ''
[[ $dom == *'id="model"'* && $dom != *'id="step-median"'* && $dom != *'<canvas'* ]] ||
    fail 'shows what was not measured'
[[ $dom == *'<p class="note" id="no-steps">'* ]] || fail 'does not say that there are no steps'
expect sampled-caption 'Every layer attended to all tokens.'

# The timeline's buttons, keys, wheel and pointer; each says what is then shown.
cat >"$folder/drive.txt" <<'SCRIPT'
<script>
const said = [];
const note = () => said.push(byId("shown").textContent.replace(" ms shown", ""));
const send = (event) => { byId("canvas").dispatchEvent(event); note(); };
for (const id of ["zoom-in", "zoom-out", "next-step", "previous-step"]) { byId(id).click(); note(); }
for (const key of ["+", "-", "0", "p"]) send(new KeyboardEvent("keydown", { key }));
send(new WheelEvent("wheel", { deltaY: -100, cancelable: true }));
byId("whole").click();
for (let i = 0; i < 40; i++) send(new KeyboardEvent("keydown", { key: "p" }));
const box = byId("canvas").getBoundingClientRect();
for (let x = 0; x < box.width && !tip.textContent.startsWith("static_attention"); x++) {
  byId("canvas").dispatchEvent(
    new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + 50 }));
}
const all = [...said.slice(0, 9), said.at(-1), ...tip.innerText.split("\n")].join("; ");
document.body.append(make("p", { id: "driven" }, all));
</script>
SCRIPT
cat "$folder/gpu.html" "$folder/drive.txt" >"$folder/driven.html"
load driven.html
expect error ''
expect driven "13.7; 20.6; 21.3; 20.6; 13.7; 20.6; 833; 20.1; 16.5; 19.8; static_attention; layer 0 ·\
 micro-batch 0; 170 µs from 0.049 ms; 2,353 GB/s, 588 GFLOP/s"

# An error in the page is seen: the checks above can fail.
sed 's/^"step_seconds":/"steps":/' "$folder/gpu.html" >"$folder/broken.html"
load broken.html
[[ $(text_of error) == 'This page failed to show its data: '* ]] || fail 'hides its errors'

echo "report: 6 pages in $browser"
