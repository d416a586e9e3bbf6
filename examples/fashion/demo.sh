#!/bin/sh
# demo.sh - the default job, and whether it is worth it.
#
#   demo.sh THAW [DRAWS]
#
# Fine-tunes the pretrained network in three phases on 10 labels of each new class, for all to see. Then does the same for
# five draws of labels (or DRAWS of them) beside two other ways to use them: the head alone, and a network from random weights.
# Rates were chosen on validation images; what is printed at the end was measured on the 5,000 test images of these classes.
set -eu
thaw=$1
draws=${2:-5}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
out=${THAW_DEMO_FOLDER:-$(dirname -- "$thaw")/demo}
images=/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

if [ ! -e "$images" ]; then
    echo "demo: $images is missing; install the package dataset-fashion-mnist" >&2
    exit 66
fi
rm -rf "$out"
mkdir -p "$out"

"$thaw" train "$here/phases.toml" --run "$out/phases"

# accuracy RECIPE DRAW: per cent of the test images
accuracy() {
    "$thaw" train "$here/$1.toml" --json --run "$out/$1-$2" --set "data.subset_seed=$2" --set train.eval_every=0 \
        --set train.eval_at_start=false >"$out/$1-$2.json"
    sed -n 's/.*"split": "test".*"metric": \([0-9.]*\),.*/\1/p' "$out/$1-$2.json" | awk '{ printf "%.1f", 100 * $1 }'
}

echo
echo "Test accuracy with 10 labels a class, for $draws draws of the labels:"
echo
echo "draw     from random weights   head alone   in phases"
draw=1
while [ "$draw" -le "$draws" ]; do
    scratch=$(accuracy scratch "$draw")
    head=$(accuracy head "$draw")
    phases=$(accuracy phases "$draw")
    printf '%-8s %15s %16s %11s\n' "$draw" "$scratch" "$head" "$phases"
    echo "$scratch $head $phases" >>"$out/table"
    draw=$((draw + 1))
done
awk '{ s += $1; h += $2; p += $3; n++ }
END {
    printf "%-8s %15.1f %16.1f %11.1f\n\n", "mean", s / n, h / n, p / n
    printf "In phases: %+.1f points on random weights, %+.1f points on the head alone.\n", (p - s) / n, (p - h) / n
    exit p > s && p > h ? 0 : 1
}' "$out/table"
echo "The first run is in $out/phases; its best weights are in $out/phases/best."
