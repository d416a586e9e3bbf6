# lib.sh - what the scripts of this folder share. Sourced with ROOT and BUILD as $1 and $2; the
# script then stands in a folder of its own, which is removed at the end.
# shellcheck shell=sh
set -u
root=$(cd "$1" && pwd)
build=$(cd "$2" && pwd)
thaw=$build/thaw
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 2
checks=0
failed=0
fashion=/usr/share/datasets/fashion-mnist

fail() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# expect CODE TEXT COMMAND…: COMMAND ends with exit code CODE, and its output or errors contain TEXT.
# The output is left in out, the errors in err.
expect() {
    want=$1 text=$2
    shift 2
    checks=$((checks + 1))
    "$@" >out 2>err </dev/null
    code=$?
    if [ $code -ne "$want" ]; then
        fail "'$*' ended with $code, not $want"
        cat out err
    elif [ -n "$text" ] && ! cat out err | grep -qF -- "$text"; then
        fail "'$*' does not say '$text'"
        cat out err
    fi
}

# has FILE TEXT, hasnt FILE TEXT
has() {
    checks=$((checks + 1))
    grep -qF -- "$2" "$1" || { fail "$1 has no '$2'"; cat "$1"; }
}
hasnt() {
    checks=$((checks + 1))
    ! grep -qF -- "$2" "$1" || { fail "$1 has '$2'"; cat "$1"; }
}

# same FILE FILE
same() {
    checks=$((checks + 1))
    cmp "$1" "$2" || fail "$1 and $2 differ"
}

# ten_pictures FOLDER: five pictures of kinds that differ in cat/, five alike in dog/.
ten_pictures() {
    mkdir -p "$1/cat" "$1/dog"
    number=0
    for file in rgb.png colour.jpg grey.jpg alpha.png progressive.jpg; do
        cp "$root/tests/data/pictures/$file" "$1/cat/$number-$file"
        cp "$root/tests/data/pictures/resize_hard.png" "$1/dog/$number.png"
        number=$((number + 1))
    done
}

# A recipe of two phases over few images, a second or two long.
tiny_recipe() {
    cat <<END
seed = 7
[model]
arch = "mlp"
widths = [784, 24, 16, 10]
[data]
train = "$fashion/train-images-idx3-ubyte.gz"
valid = "$fashion/t10k-images-idx3-ubyte.gz"
first = 512
valid_first = 128
batch = 16
mean = 0.286
std = 0.353
[optimizer]
name = "adamw"
lr = 2e-3
[checkpoint]
every = "10 steps"
[[phase]]
name = "head"
epochs = 2
freeze = ["backbone"]
[[phase]]
name = "all"
epochs = 2
unfreeze = ["backbone"]
lr_coefficients = { backbone = 0.5 }
END
}

finish() {
    [ $failed -eq 0 ] || { echo "$failed of $checks checks failed"; exit 1; }
    echo "$checks checks"
}
