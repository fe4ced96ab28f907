#!/usr/bin/env bash
# The pages of eval in a headless browser: their charts, tables and maps, pointer and keys, no errors.
# Usage: test_eval_page.sh PROGRAM [FOLDER]
# PROGRAM is tests/unit/eval/test_eval_page.c: it writes most of the pages. FOLDER has those of a small
# evaluation, with its CSV files (case_eval_small of tests/e2e/eval/eval_files.sh).
# Exits 77 where no browser works.
set -euo pipefail
program=$1 evaluated=${2:-}
# shellcheck source=tests/scripts/browser.sh
source "$(dirname "$0")/browser.sh"

count() { # count PATTERN N: so many matches
    local found
    found=$(grep -oE "$1" <<<"$dom" | wc -l) || true
    [[ $found == "$2" ]] || fail "$found times $1, expected $2"
}

drive() { # drive NAME: loads that page with the script on stdin at its end; say() adds to `driven`
    page=driven.html
    {
        cat "$folder/$1"
        echo '<script>const said = [], say = (text) => said.push(text);'
        cat - "$folder/driver.txt"
    } >"$folder/$page"
    load "$page"
    expect error ''
}

# What the scripts below use, and how they end.
cat >"$folder/driver.txt" <<'SCRIPT'
function tipText() { return tip.hidden ? "hidden" : tip.innerText.replaceAll("\n", "; "); }
function send(type, target, about = {}) {
  const Kind = type === "keydown" ? KeyboardEvent : PointerEvent;
  target.dispatchEvent(new Kind(type, { bubbles: true, ...about }));
}
function key(name) { send("keydown", document.activeElement, { key: name }); }
document.body.append(make("p", { id: "driven" }, said.join(" | ")));
</script>
SCRIPT

"$program" "$folder"
expect_whole scores_2.html

# ---- scores ----

load scores_2.html
expect error ''
expect model 'sample &lt;/script&gt;, 32 layers, 32/8 heads of 128'
[[ $dom == *'<code>magicpig-pipe eval --note "&lt;/script&gt;&lt;!-- &lt;script&gt;no()'* ]] ||
    fail 'lost the command'
expect setup 'The whole prompt is read exactly, the answer goes through the method.'
count '<g class="point' 2
count '<line class="reference' 1
count '<path class="interval' 2
count '<text class="label' 2
count 'id="length-chart"' 0
count 'id="attention"' 0
count '<table id="table-' 1
expect_row table-0 'full 92.0 89.0–95.0 – – 4.00 GB 3.25 98.0 97.0 96.0'
expect_row table-0 \
    'magicpig, (K, L) = (10, 150) 77.0 74.0–80.0 60.0 0.73 % 1.25 MB 4.25 83.0 82.0 81.0'
expect shading "Shaded by score, from 77.0 (none) to 98.0 (most). –: not measured, or the method\
 does not select tokens."

# Of the longest prompts setting 5 was not measured: 11 points in the first chart, 59 in the second.
load scores_12.html
expect error ''
count '<g class="point' 70
count '<line class="reference' 1
count '<path class="line' 12
count '<text class="label' 23
count '<table id="table-' 5
count '<td class="score' $((5 * 12 * 14))
count '<option value="[0-9]' 13
expect_row table-0 "quest, 1,024 tokens in pages of 16$(printf ' –%.0s' {1..18})"
tags='&lt;/script&gt;&lt;!-- &lt;script&gt;no()'
[[ $(rows table-4) == *"$tags 88.7 85.7–91.7 1,025 12.5 % 8.25 MB 11.3 94.7 "* ]] ||
    fail "no row of tags in: $(rows table-4)"
[[ $(rows table-4) == *'quest, 2,048 tokens in pages of 16 87.7 456 '* ]] ||
    fail "an interval that there is not in: $(rows table-4)"
count 'été € 🐋 "quoted"' 8

size=420,900 load scores_12.html
expect error ''
count '<g class="point' 70
count '<text class="label' 0

load scores_none.html
expect error ''
count '<p class="note">No scores.</p>' 1
expect shading 'No scores.'

# A length, a task, the keys in a chart, a table's cell under the pointer, a setting that stands out.
drive scores_12.html <<'SCRIPT'
const points = () => document.querySelectorAll("#rows-chart .point").length;
const strong = () => document.querySelectorAll("#rows-chart .point:not(.off)").length;
byId("length-4").click();
say(points());
byId("task").value = 12;
send("change", byId("task"));
say(byId("rows-chart").firstChild.getAttribute("aria-label"));
document.querySelector("#rows-chart .point[tabindex='0']").focus();
say(tipText());
key("ArrowRight");
say(tipText());
say(strong());
key("Escape");
say(tipText());
document.querySelector("#length-chart .point[tabindex='0']").focus();
key("ArrowDown");
key("ArrowRight");
say(document.activeElement.getAttribute("aria-label"));
send("pointerover", byId("table-4").rows[2].cells[3]);
say(tipText());
send("pointerover", document.body);
say(strong());
document.querySelectorAll("#legend button")[3].click();
say(strong());
say(document.querySelectorAll("#legend button[aria-pressed='true']").length);
SCRIPT
expect driven "12 | Score against rows read: qa_2, 8,192 tokens |\
 sink and window; qa_2, 8,192 tokens; score 41, 95 % interval 32 to 50; 20 prompts; 0 rows read;\
 0 % of the offloaded tokens sampled; 11,250,000 bytes a token; 14.25 ms a step |\
 magicpig, (K, L) = (10, 150); qa_2, 8,192 tokens; score 71, 95 % interval 62 to 80; 20 prompts;\
 60 rows read; 0.732422 % of the offloaded tokens sampled; 1,250,000 bytes a token; 4.25 ms a step |\
 1 | hidden | magicpig, (K, L) = (10, 150), qa_2, 16,384 tokens, score 65, 95 % interval 56 to 74,\
 20 prompts, 75 rows read, 0.457764 % of the offloaded tokens sampled, 1,250,000 bytes a token,\
 4.25 ms a step | magicpig, (K, L) = (10, 150); mean of 13 tasks, 8,192 tokens; score 77, 95 %\
 interval 74 to 80; 260 prompts; 60 rows read; 0.732422 % of the offloaded tokens sampled; 1,250,000\
 bytes a token; 4.25 ms a step | 12 | 1 | 1"

# ---- attention ----

load attention_2.html
expect error ''
expect setup 'Everything from the question on goes through the method.'
count 'id="scores"' 0
count '<g class="point' 1
count '<svg class="map" role="group"' 1
count '<rect class="cell' $((7 * 8))
count '<rect class="mean' 7
count '<rect class="keep' 3
count '<rect class="dense' 3
expect_row errors 'full – – – 1.20 MB'
expect_row errors 'magicpig, (K, L) = (10, 150) 9.3 % 60.0 0.73 % 2.40 MB'
expect left-out 'Not drawn, without an error: full.'
expect recommendation-0 ''
expect recommendation-1 'Keeping layers 1 and 5 dense would lower the mean error from 9.3 % to 7.0 %.'

load attention_12.html
expect error ''
count '<g class="point' 11
count '<text class="label' 11
count '<svg class="map" role="group"' 11
count '<rect class="cell' $((11 * 29 * 32))
count '<rect class="mean' $((11 * 29))
expect recommendation-1 'Keeping layers 1 and 29 dense would lower the mean error from 9.3 % to 7.0 %.'
expect recommendation-2 'Keeping layer 1 dense would lower the mean error from 6.2 % to 5.5 %.'
expect recommendation-3 'Nothing to recommend.'

load attention_full.html
expect error ''
count 'id="maps"' 0
count '<p class="note">No errors.</p>' 1

drive attention_2.html <<'SCRIPT'
document.querySelector("#maps [tabindex='0']").focus();
say(tipText());
key("ArrowDown");
key("ArrowRight");
say(tipText());
for (let i = 0; i < 9; i++) key("ArrowRight");
say(tipText());
SCRIPT
expect driven "layer 0; dense: attends to all tokens | layer 1, head 1; error 5.33333 % |\
 layer 1, mean; error 4.5 %"

# An error in the page is seen: the checks above can fail.
sed 's/"kind":"scores"/"kind":"score"/' "$folder/scores_2.html" >"$folder/broken.html"
load broken.html
[[ $(text_of error) == 'This page failed to show its data: '* ]] || fail 'hides its errors'

# ---- what the program has found ----

# Fields of CSV between bars, the quotes of names left out.
unquoted() { # unquoted FILE
    sed -E '1d; s/^"(([^"]|"")*)",/\1|/; :next s/(\|.*),/\1|/; t next; s/"//g' "$1"
}

# Each line of the file wanted is a name and numbers between bars. The table's row of that name has the
# same numbers, to a share of 0.006 (it shows three digits) or half a tenth; – for an empty field.
expect_figures() { # expect_figures ID
    rows "$1" >"$folder/rows"
    awk -F'|' '
        NR == FNR { row[FNR] = $0; count = FNR; next }
        {
            for (i = 1; i <= count && index(row[i], $1 " ") != 1; i++);
            if (i > count) { print "no row " $1; exit bad = 1 }
            rest = substr(row[i], length($1) + 2)
            gsub(/,/, "", rest)
            gsub(/–/, " – ", rest)
            n = split(rest, word, " ")
            at = 0
            for (f = 2; f <= NF; f++) {
                found = word[++at]
                if ($f == "") {
                    if (found != "–") { print $1 ": field " f ": " found; bad = 1 }
                    continue
                }
                if (found == "–") found = word[++at] # between the ends of an interval
                if (word[at + 1] == "%" || word[at + 1] == "B") at++
                if (word[at + 1] == "kB") { found *= 1e3; at++ }
                if (word[at + 1] == "MB") { found *= 1e6; at++ }
                off = found - $f
                if (off < 0) off = -off
                if (off > 0.006 * $f && off > 0.051) { print $1 ": field " f ": " found ", " $f; bad = 1 }
            }
            if (at != n) { print $1 ": " n - at " words more"; bad = 1 }
        }
        END { exit bad || FNR == 0 }' "$folder/rows" "$folder/wanted" || fail "$(<"$folder/rows")"
}

check_scores_page() {
    cp "$evaluated/scores.html" "$folder"
    expect_whole scores.html
    load scores.html
    expect error ''
    count '<g class="point' 4
    count '<line class="reference' 1
    count '<table id="table-' 1
    # Of each setting the mean of the tasks, its cost, and the score of each task.
    unquoted "$evaluated/scores.csv" | awk -F'|' '
        $3 == "mean" { name[++n] = $1
            line[n] = sprintf("%s|%s|%s|%s|%s|%s|%s", 100 * $5, 100 * $6, 100 * $7, $9,
                $8 == "" ? "" : 100 * $8, $10, $11) }
        $3 != "mean" { line[n] = line[n] "|" 100 * $5 }
        END { for (i = 1; i <= n; i++) print name[i] "|" line[i] }' >"$folder/wanted"
    [[ $(wc -l <"$folder/wanted") == 4 ]] || fail "no four settings in $evaluated/scores.csv"
    expect_figures table-0
}

check_errors_page() {
    cp "$evaluated/errors.html" "$folder"
    expect_whole errors.html
    load errors.html
    expect error ''
    count '<g class="point' 3
    count '<svg class="map" role="group"' 3
    count '<rect class="cell' $((3 * 7 * 8))
    count '<rect class="dense' 7 # and the legend's
    unquoted "$evaluated/errors.csv" | awk -F'|' '$4 != "" { sum[$1] += 100 * $4; n[$1]++ }
        END { for (s in sum) print s "|" sum[s] / n[s] }' >"$folder/means"
    # The page's other figures are not in the CSV file.
    rows errors >"$folder/rows"
    while IFS='|' read -r name mean; do
        awk -v name="$name" -v mean="$mean" 'index($0, name " ") == 1 {
            found = substr($0, length(name) + 2) + 0
            ok = found - mean < 0.051 && mean - found < 0.051 }
            END { exit !ok }' "$folder/rows" || fail "error of $name: expected $mean in: $(<"$folder/rows")"
    done <"$folder/means"
    [[ $(wc -l <"$folder/means") == 3 ]] || fail "no three settings in $evaluated/errors.csv"
}

pages=10
if [[ -n $evaluated ]]; then
    check_scores_page
    check_errors_page
    pages=12
fi
echo "eval page: $pages pages in $browser"
