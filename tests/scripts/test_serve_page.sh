#!/usr/bin/env bash
# The page of serve in a headless browser: what it says of the requests so far, and its box.
# Usage: test_serve_page.sh MAGICPIG_PIPE MODEL. Exits 77 where no browser works.
set -euo pipefail
program=$1
model=$2
# shellcheck source=tests/scripts/browser.sh
source "$(dirname "$0")/browser.sh"

export XDG_CACHE_HOME=$folder/cache STARPU_PERF_MODEL_DIR=$folder/starpu HWLOC_COMPONENTS=-pci
"$program" serve --model "$model" --served-name demo --port 0 --batch 4 --context 2048 \
    --devices cpu 2>"$folder/err" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
for ((tries = 0; tries < 600; tries++)); do
    url=$(grep -oE 'http://[0-9.]+:[0-9]+' "$folder/err") && break
    kill -0 "$server" || { cat "$folder/err" && exit 1; }
    sleep 0.1
done
for max in 5 7; do
    curl -sS -o "$folder/answer" "$url/v1/completions" \
        -d "{\"prompt\": \"Once upon a time\", \"max_tokens\": $max, \"ignore_eos\": true}"
done

# The page as it is served, opened with a script at its end that uses it once it shows something.
# Its requests go to the server, which browsers allow a file only if they are told to. The browser's time
# jumps from timer to timer also while the server works, so there is plenty of it.
curl -sS "$url/" >"$folder/page.html"
page=page.html
[[ $(grep -oE 'https?://[^"]*' "$folder/page.html") == http://www.w3.org/2000/svg ]] ||
    fail 'names addresses'
cat >"$folder/drive.txt" <<SCRIPT
<script>
(async () => {
  const until = async (ready) => {
    while (!ready()) await new Promise((done) => setTimeout(done, 20));
  };
  await until(() => byId("past").tBodies[0].rows.length === 2);
  byId("prompt").value = "The old baker";
  byId("max-tokens").value = 6;
  byId("send").click();
  await until(() => byId("answer-note").textContent.endsWith("generated"));
  await until(() => byId("past").tBodies[0].rows.length === 3);
  byId("prompt").value = "word ".repeat(3000);
  byId("send").click();
  await until(() => byId("answer-note").textContent.includes("maximum context length"));
  document.body.append(make("p", { id: "driven" }, "done"));
})();
</script>
SCRIPT
sed "s|fetch(path,|fetch('$url' + path,|" "$folder/page.html" | cat - "$folder/drive.txt" \
    >"$folder/driven.html"
page=driven.html
dom=$(HOME=$folder timeout 60 "$browser" --headless --no-sandbox --disable-gpu --no-first-run \
    --disable-background-networking --disable-web-security --user-data-dir="$folder/profile" \
    --window-size=1400,1000 --timeout=30000 --virtual-time-budget=300000 --dump-dom \
    "file://$folder/driven.html" 2>"$folder/log") || fail "the browser failed: $(<"$folder/log")"
dom=${dom//$'\n'/ } # a table is a line to rows
expect error ''
expect driven 'done'
expect model demo
expect state 'ready, up to 2,048 tokens a request'
expect running-count 0
expect slots 'of 4'
expect waiting-count 0
[[ $(text_of answer-note) == *'maximum context length is 2048 tokens'* ]] || fail 'hides a refusal'
[[ $(rows past | grep -c ' length ') == 3 ]] || fail "the last requests are: $(rows past)"
[[ $(text_of memory) == *' MiB' ]] || fail "memory: $(text_of memory)"
kill "$server"
wait "$server" || fail "the server ended with $?"
echo "serve: its page in $browser"
