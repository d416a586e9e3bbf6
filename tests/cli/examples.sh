#!/bin/sh
# examples.sh ROOT BUILD - the example programs run, say what they promise, and stay short.
. "$(dirname "$0")/lib.sh"

expect 0 "body.layer1.weight   rate 0.05" "$build/embed-control"
cp out control
expect 0 "phase 'most'" "$build/embed-control-cxx"
same out control

expect 0 "best weights, in embed-run/best: accuracy" "$build/embed-train"
for file in best/model.safetensors best/config.json checkpoints events.jsonl; do
    [ -e "embed-run/$file" ] || fail "embed-train left no $file"
done
expect 0 "backbone" "$thaw" show embed-run/best
expect 73 "holds a run already" "$build/embed-train"

[ "$(wc -l <"$root/examples/embed-train.c")" -lt 100 ] || fail "embed-train.c has 100 lines or more"
[ "$(wc -l <"$root/examples/embed-control.c")" -le 80 ] || fail "embed-control.c has more than 80 lines"

finish
