#!/usr/bin/env bash
# The report's pages in a headless browser: their figures, their table, their timeline, no errors.
# Usage: test_report.sh PROGRAM, which is tests/unit/pipeline/test_report.c: it writes the pages.
# Exits 77 where no browser works.
set -euo pipefail
program=$1
# shellcheck source=tests/scripts/browser.sh
source "$(dirname "$0")/browser.sh"

"$program" "$folder"

expect_whole gpu.html

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
expect error-mean 6.54
expect timeline-note 'All 17,680 recorded spans.'
expect shown '20.6 ms shown'
expect_row ops 'GPU · measured bandwidth 3,170 GB/s'
expect_row ops 'ffn 2,560 320 8.00 40.0 % 125 2,816 5,600 88.8 %'
expect_row ops 'hashing 2,400 12.0 0.300 1.5 % 5.00 – –'
expect_row ops 'sampled_attention 2,400 240 6.00 30.0 % 100 80.0 80.0 74.1 %'
expect_row ops 'submit 40 12.0 0.300 1.5 % 300 – –'

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
