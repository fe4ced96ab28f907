# For tests that open the program's pages in a headless browser: sourced by test_*.sh. Makes a folder,
# gone at the end, and exits 77 where no browser works.
# shellcheck shell=bash
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The window has $size pixels, if that is set.
open_page() { # open_page FILE: the document as it is once the page's script has run
    HOME=$folder timeout 60 "$browser" --headless --no-sandbox --disable-gpu --no-first-run \
        --disable-background-networking --user-data-dir="$folder/profile" \
        --window-size="${size:-1400,1000}" --dump-dom "file://$1" 2>"$folder/log"
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

expect_whole() { # expect_whole NAME: all of that page is in its file
    page=$1
    [[ $(grep -oE 'https?://[^"]*' "$folder/$page") == http://www.w3.org/2000/svg ]] ||
        fail 'names addresses'
}

text_of() { # text_of ID: the text of that element, empty without it
    grep -o "id=\"$1\"[^>]*>[^<]*" <<<"$dom" | sed 's/[^>]*>//' || true
}

expect() { # expect ID TEXT: empty: there is no such element
    local found
    found=$(text_of "$1")
    [[ $found == "$2" ]] || fail "$1: found \"$found\", expected \"$2\""
}

rows() { # rows ID: that table, one line a row, cells separated by spaces
    grep -o "<table id=\"$1\".*" <<<"$dom" | sed 's/<\/table>.*//; s/<tr/\n<tr/g' |
        sed -E 's/<[^>]*>/ /g; s/ +/ /g; s/^ //; s/ $//'
}

expect_row() { # expect_row ID ROW
    rows "$1" | grep -qxF "$2" || fail "no row \"$2\" in: $(rows "$1")"
}
