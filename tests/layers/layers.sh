#!/bin/sh
# layers.sh ROOT - who may include whom, and the other fences of docs/design.md.
#
# Reads the sources as text; builds nothing. Prints one line for each breach, "file:line: what", and
# fails if there is any. tests/layers/mutants.sh checks that each rule bites.
set -u
cd "$1" || exit 2

{
find src cli -name '*.[ch]' -o -name '*.inc' -o -name '*.def' | LC_ALL=C sort | xargs awk '
BEGIN {
    # layer: the layers that it may include, itself apart
    may["base"]   = ""
    may["core"]   = "base"
    may["tensor"] = "base"
    may["graph"]  = "base tensor"
    may["data"]   = "base tensor"
    may["dist"]   = "base tensor"
    may["params"] = "base core tensor"
    may["ckpt"]   = "base core tensor params"
    may["plan"]   = "base core tensor graph"
    may["model"]  = "base core tensor graph"
    may["optim"]  = "base core tensor params graph plan"
    may["exec"]   = "base core tensor params graph plan"
    may["train"]  = "base core tensor graph data dist params ckpt plan model optim exec"

    # headers of other projects, and the only files that may include them
    fence["dnnl"]    = "^src/exec/dnn[a-z0-9_]*\\.[ch]$"
    fence["oneapi"]  = "^src/exec/dnn[a-z0-9_]*\\.[ch]$"
    fence["mpi"]     = "^src/dist/mpi\\.c$"
    fence["cuda"]    = "^src/exec/cuda"
    fence["cudnn"]   = "^src/exec/cuda"
    fence["cublas"]  = "^src/exec/cuda"
    fence["pcre2"]   = "^src/core/"
    fence["jansson"] = "^src/(base/json\\.c|model/|ckpt/|train/)"
    fence["openssl"] = "^src/(base|ckpt|train|data)/"
    fence["zlib"]    = "^src/data/"
    fence["jpeglib"] = "^src/data/jpeg\\.c$"
    fence["png"]     = "^src/data/png\\.c$"
}
function breach(what) { print FILENAME ":" FNR ": " what }
FNR == 1 {
    split(FILENAME, part, "/")
    layer = part[1] == "src" ? part[2] : "cli"
    first = 1
    if (layer != "cli" && !(layer in may))
        breach("the folder \"" layer "\" is no layer")
}
FNR == 801 { breach("more than 800 lines") }
/^[ \t]*#[ \t]*include/ {
    text = $0
    sub(/^[^"<]*/, "", text)
    quoted = substr(text, 1, 1) == "\""
    name = substr(text, 2)
    sub(/[">].*/, "", name)
    if (first && layer != "cli" && FILENAME ~ /\.c$/ &&
        !(quoted && name ~ ("^" layer "/[a-z0-9_]+\\.h$")))
        breach("the first include is not the header of its own layer")
    first = 0
    if (quoted && layer == "cli" && name ~ /\//)
        breach("cli may include <thaw/thaw.h> and its own header only, not \"" name "\"")
    if (quoted && layer != "cli") {
        other = name
        if (!sub(/\/.*/, "", other))
            breach("\"" name "\" is included without its layer")
        else if (other != layer && index(" " may[layer] " ", " " other " ") == 0)
            breach(layer " may not include " other " (\"" name "\")")
    }
    if (!quoted && layer == "cli" && name ~ /^thaw\// && name != "thaw/thaw.h")
        breach("cli may include <thaw/thaw.h> only, not <" name ">")
    if (!quoted && layer == "core" && name == "thaw/thaw.h")
        breach("core stands on <thaw/control.h> alone")
    if (!quoted) {
        key = name
        sub(/[.\/_].*/, "", key)
        if (key in fence && FILENAME !~ fence[key])
            breach("<" name "> is fenced in: only " fence[key] " may include it")
        if (key == "dnnl" || key == "oneapi" || key == "mpi")
            user[key == "oneapi" ? "dnnl" : key, FILENAME] = 1
    }
    next
}
{
    code = $0
    sub(/\/\/.*/, "", code)
    if (code ~ /^[ \t]*(\/?\*|\*\/)/)
        next
    if (FILENAME != "src/base/mem.c" &&
        code ~ /(^|[^A-Za-z0-9_.>])(malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign|asprintf|getline)\(/)
        breach("memory comes from base/mem.c only")
    if (layer != "cli" && FILENAME != "src/base/status.c" &&
        code ~ /(^|[^A-Za-z0-9_.>])(printf|fprintf|puts|fputs|putchar|perror|exit|_exit|abort|system|popen|fopen)\(/)
        breach("the library neither prints nor exits, and does its file work through base/os.c")
    if (FILENAME != "src/base/str.c" &&
        layer != "cli" && code ~ /(^|[^A-Za-z0-9_.>])(strtod|strtof|atof)\(/)
        breach("depends on the locale")
    if (code ~ /(^|[^A-Za-z0-9_.>])(sprintf|strcpy|strcat|strtok|gets|atoi)\(/)
        breach("does not know its bounds")
}
END {
    for (pair in user) {
        split(pair, part, SUBSEP)
        n[part[1]]++
    }
    for (key in n)
        if (n[key] > 1)
            print "src: <" key ".h> is included by " n[key] " files; one may"
}'

# One name, one file.
find src cli include tests examples bench -name '*.[ch]' 2>/dev/null | awk -F/ '
    { if ($NF in seen) print $0 ":1: has the name of " seen[$NF]; seen[$NF] = $0 }'

# What is not listed is not built, or worse, not tested.
for file in $(find src cli tests examples bench \( -name '*.c' -o -name '*.sh' \) 2>/dev/null); do
    case $file in
    tests/fuzz/replay.c | */lib*.sh | examples/*/*.sh | tests/*/data/*) continue ;;
    tests/fuzz/*) listed=$file ;;
    tests/*.sh | tests/*/test_*.c) listed=${file#tests/} listed=${listed%.*} ;;
    *) listed=$file ;;
    esac
    grep -Eq "^ *$listed\)?\$" cmake/sources.cmake || echo "$file:1: not listed in cmake/sources.cmake"
done
} >"${TMPDIR:-/tmp}/thaw-layers.$$"

cat "${TMPDIR:-/tmp}/thaw-layers.$$"
breaches=$(wc -l <"${TMPDIR:-/tmp}/thaw-layers.$$")
rm -f "${TMPDIR:-/tmp}/thaw-layers.$$"
[ "$breaches" -eq 0 ] || { echo "layers: $breaches breaches"; exit 1; }
echo "layers: $(find src cli -name '*.[ch]' | wc -l) files, no breach"
