#!/bin/sh
# train.sh ROOT BUILD - a run of the program from its start to its end: what it prints, what it
# leaves, and what other commands say about it.
. "$(dirname "$0")/lib.sh"
tiny_recipe >tiny.toml

expect 0 "phase 1/2 head: 170 of 19,410 parameters train" "$thaw" train tiny.toml
has out "phase 2/2 all: 19,410 of 19,410 parameters train (100.0%)"
has out "valid loss"
has out "accuracy"
has out "learning rate"
has out "peak memory"
grep -Eq '^head +170 \(0\.9%\) ' out || fail "no row for the phase 'head'"
grep -Eq '^all +19,410 \(100\.0%\) ' out || fail "no row for the phase 'all'"
[ ! -s err ] || fail "something on stderr: $(cat err)"
for file in recipe.toml events.jsonl checkpoints best/config.json best/model.safetensors; do
    [ -e "runs/tiny/$file" ] || fail "the run has no $file"
done
"$build/json_check" event <runs/tiny/events.jsonl >/dev/null || fail "events.jsonl is no JSON"

# A run is never overwritten.
expect 73 "thaw resume runs/tiny" "$thaw" train tiny.toml
has err "--run"

# For programs.
expect 0 "" "$thaw" train tiny.toml --json --run json
"$build/json_check" event phase split <out >events || fail "--json is no JSON"
for kind in run phase step eval save phase_end end; do
    has events "\"$kind\""
done
[ "$(grep -c '"step"' events)" -eq 128 ] || fail "$(grep -c '"step"' events) steps, not 128"
[ "$(grep -c '"phase"	' events)" -eq 2 ] || fail "not two phases"

# Quiet: the table alone.
expect 0 "peak memory" "$thaw" train tiny.toml --quiet --run quiet
hasnt out "valid loss"

# Long names are cut between characters, never within one.
word=grün
long=$word$word$word$word$word$word$word$word$word$word$word
sed "s/\"head\"/\"x$long\"/" tiny.toml >long.toml
expect 0 "x$long" "$thaw" plan long.toml
expect 0 "" "$thaw" train long.toml --run long
iconv -f UTF-8 -t UTF-8 out >/dev/null || fail "a name was cut within a character"
has out "phase 1/2 x$word$word$word$word$word$word${word}grü: 170"
has out "x$word$word$word$word$word$word${word}grü       170 (0.9%)"
has out "all                               19,410 (100.0%)"

# What the run says afterwards.
expect 0 "valid: 128 images" "$thaw" eval runs/tiny
expect 0 "" "$thaw" eval runs/tiny --json
"$build/json_check" n <out >n || fail "eval --json is no JSON"
has n 128
expect 0 "valid: 128 images" "$thaw" eval runs/tiny/best --recipe tiny.toml
expect 0 "train: 512 images" "$thaw" eval runs/tiny --split train
expect 0 "backbone" "$thaw" show runs/tiny
expect 0 "" "$thaw" show runs/tiny --json
expect 0 "backbone" "$thaw" show runs/tiny/best
expect 0 "backbone" "$thaw" show tiny.toml
expect 0 "head" "$thaw" plan tiny.toml
expect 0 "linear" "$thaw" plan tiny.toml --steps
expect 0 "" "$thaw" plan tiny.toml --json

# The resolved recipe is a recipe.
expect 0 "" "$thaw" plan runs/tiny/recipe.toml

# The same run gives the same bits.
same runs/tiny/best/model.safetensors json/best/model.safetensors
same runs/tiny/best/model.safetensors quiet/best/model.safetensors

# A reader that goes away, a full disk behind standard output: training goes on.
"$thaw" train tiny.toml --json --run pipe | head -n 1 >/dev/null
same runs/tiny/best/model.safetensors pipe/best/model.safetensors
"$thaw" train tiny.toml --run full >/dev/full || fail "a full standard output ended the run"
same runs/tiny/best/model.safetensors full/best/model.safetensors

# A limit on the size of files: saves fail, training goes on, and the end says so.
expect 74 "File too large; training goes on" \
    sh -c "ulimit -f 40; exec '$thaw' train tiny.toml --run limited"
has err "File too large"
has out "epoch 4"

# Memory: refused before there is a folder.
expect 71 "too little for a batch of 1" \
    "$thaw" train tiny.toml --run large --set train.memory_limit=1MiB
checks=$((checks + 1))
[ ! -e large ] || fail "a run that was refused left its folder"
expect 0 "" "$thaw" plan tiny.toml --set train.memory_limit=1GiB
expect 78 "'train.memory_limit' must be like '2GiB'" \
    "$thaw" plan tiny.toml --set train.memory_limit=many

finish
