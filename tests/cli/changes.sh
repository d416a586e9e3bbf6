#!/bin/sh
# changes.sh ROOT BUILD - `thaw resume` of a run whose recipe, data or threads have changed: what is
# refused names the difference and exits with 78; what is allowed is said.
. "$(dirname "$0")/lib.sh"
tiny_recipe >tiny.toml
tiny_recipe | sed '/^name = "all"/,$ s/^epochs = .*/epochs = 3/' >longer.toml
last() {
    find "$1/checkpoints" -maxdepth 1 -name 'step-*' | LC_ALL=C sort | tail -n 1
}

expect 0 "" "$thaw" train tiny.toml --threads 1 --run run
cp -r run kept

# More epochs of the last phase, also where it is over: as if they had been asked for from the start.
expect 0 "phase 2 ends at step 160 instead of 128" \
    "$thaw" resume run --threads 1 --set phase.2.epochs=3
has run/recipe.toml "epochs = 3"
expect 0 "" "$thaw" train longer.toml --threads 1 --run longer
same "$(last run)/model.safetensors" "$(last longer)/model.safetensors"
same "$(last run)/optimizer.safetensors" "$(last longer)/optimizer.safetensors"

# A phase more.
printf '[[phase]]\nname = "third"\nsteps = 5\nlr = 1e-4\n' >>run/recipe.toml
expect 0 "phase 3 is new" "$thaw" resume run --threads 1
expect 0 "" "$thaw" resume run --threads 1

# What steps already made depended on.
for set in optimizer.lr=1 data.batch=8 seed=1 phase.1.lr=1; do
    expect 78 "'${set%=*}' is ${set#*=}, was " "$thaw" resume kept --set "$set"
    hasnt kept/recipe.toml "${set#*.} "
done
expect 78 "'phase.1.lr' is 1, was not set: the phase is over" \
    "$thaw" resume kept --set phase.1.lr=1 --set seed=1
has err "'seed' is 1, was 7"

# Other data: less of it, other labels; and the same in another place.
expect 78 "256 samples, were 512" "$thaw" resume kept --set data.first=256
expect 78 "64 samples, were 128" "$thaw" resume kept --set data.valid_first=64
expect 78 "the training data has changed since" "$thaw" resume kept \
    --set "data.train=$fashion/t10k-images-idx3-ubyte.gz" \
    --set "data.train_labels=$fashion/t10k-labels-idx1-ubyte.gz"
for part in images-idx3 labels-idx1; do
    cp "$fashion/train-$part-ubyte.gz" .
done
expect 0 "what it gives is the same" "$thaw" resume kept --threads 1 \
    --set "data.train=$PWD/train-images-idx3-ubyte.gz" \
    --set "data.train_labels=$PWD/train-labels-idx1-ubyte.gz"

# Another number of threads.
expect 0 "resumed with 2 threads instead of 1: results may differ in the last bits" \
    "$thaw" resume kept --threads 2
finish
