#!/bin/sh
# edit.sh ROOT BUILD - a recipe from a preset trains; its phases are shown; a checkpoint is edited by
# hand, and the run goes on with the edit; what that changed is told apart by its exit code.
. "$(dirname "$0")/lib.sh"

expect 0 "linear-probe" "$thaw" init --list
cp out presets
for preset in linear-probe halves gradual discriminative layer-decay freeze-out random-blocks; do
    has presets "$preset"
    "$thaw" init --preset $preset resnet18 "$fashion/train-images-idx3-ubyte.gz" >$preset.toml
    expect 0 "(all)" "$thaw" show $preset.toml
done
expect 78 "did you mean 'gradual'" "$thaw" init --preset graduel resnet18
expect 66 "did you mean 'resnet18'" "$thaw" init --preset gradual resnet19
expect 64 "needs a MODEL" "$thaw" init
expect 64 "needs a MODEL" "$thaw" init --preset gradual

# A preset's recipe runs as it is printed.
tiny_recipe >tiny.toml
expect 0 "" "$thaw" train tiny.toml --run first --quiet
expect 0 "" "$thaw" init --preset linear-probe first/best "$fashion/train-images-idx3-ubyte.gz" \
    "$fashion/t10k-images-idx3-ubyte.gz" --epochs 2
cp out probe.toml
expect 0 "" "$thaw" train probe.toml --set data.first=64 --set data.valid_first=64 --run probe --quiet

# Stopped in the middle of the first phase, then edited.
sed 's/^every = .*/every = "10 steps"\nkeep = 50/; s/^epochs = .*/steps = 60/' tiny.toml >run.toml
expect 0 "" "$thaw" train run.toml --run whole --quiet
cp -r whole edited
find edited/checkpoints -name 'step-000*' | while read -r path; do
    [ "${path##*step-}" -le 40 ] || rm -r "$path"
done
expect 0 "iteration 40, phase 1 'head'" "$thaw" show edited
has out ">1 head"
expect 78 "did you mean 'head'" "$thaw" freeze edited haed
expect 64 "'fast' is no coefficient" "$thaw" lr edited fast head
expect 64 "needs CHECKPOINT PATTERN" "$thaw" freeze edited
expect 66 "" "$thaw" freeze nowhere head
[ "$(find edited/checkpoints -name '*edit*' | wc -l)" -eq 0 ] || fail "a mistake left a checkpoint"
expect 0 "step-000040.edit-1" "$thaw" freeze edited head
expect 0 "step-000040.edit-2" "$thaw" unfreeze edited/checkpoints/step-000040.edit-1 'backbone\.fc1'
expect 0 "step-000040.edit-3" "$thaw" lr edited 0.1 'backbone\.fc1'
same whole/checkpoints/step-000040/state.json edited/checkpoints/step-000040/state.json
same whole/checkpoints/step-000040/model.safetensors edited/checkpoints/step-000040.edit-3/model.safetensors
expect 0 "edited at iteration 40: lr 0.1 'backbone\.fc1'" "$thaw" show edited
expect 1 "backbone.fc1" "$thaw" diff whole/checkpoints/step-000040 edited
expect 1 '"differ": true' "$thaw" diff --json whole/checkpoints/step-000040 edited
expect 0 "the same phase state" "$thaw" diff whole/checkpoints/step-000040 whole/checkpoints/step-000030
expect 0 "the same phase state" "$thaw" diff run.toml whole
expect 1 "phase 2 'all'" "$thaw" diff run.toml edited
expect 66 "" "$thaw" diff run.toml nowhere

expect 0 "edited by hand: 3 times" "$thaw" resume edited
expect 0 "iteration 120, phase 2 'all'" "$thaw" show edited
has out "edited at iteration 40: freeze 'head'"
checks=$((checks + 1))
! cmp -s whole/checkpoints/step-000120/model.safetensors edited/checkpoints/step-000120/model.safetensors ||
    fail "the edits changed nothing"

finish
