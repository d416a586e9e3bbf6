#!/bin/sh
# errors.sh ROOT BUILD - what is wrong with a recipe or a file is said at once, with its place, and
# with the documented exit code; nothing is left behind.
. "$(dirname "$0")/lib.sh"

expect 66 "nowhere.toml" "$thaw" train nowhere.toml
has err "[E_MISSING]"
expect 66 "" "$thaw" resume nowhere
expect 66 "" "$thaw" show nowhere
expect 66 "" "$thaw" eval nowhere

# All mistakes at once, one line each, with line and column.
cat >bad.toml <<'END'
sed = 1
[model]
arch = "resnet19"
[data]
train = 3
[optimizer]
lr = "fast"
[[phase]]
epochs = 2
freze = ["fc"]
END
expect 78 "bad.toml:1:1:" "$thaw" train bad.toml
has err "did you mean 'seed'?"
has err "bad.toml:3:"
has err "bad.toml:5:"
has err "bad.toml:7:"
has err "bad.toml:10:"
has err "did you mean 'phase.freeze'"
[ "$(grep -c '^thaw: error: ' err)" -ge 5 ] || fail "not all mistakes were named"
[ "$(grep -vc '^thaw: error: ' err)" -eq 0 ] || fail "a line without 'thaw: error: '"
[ ! -s out ] || fail "an error on standard output"

# A syntax error stands alone.
printf 'seed = = 1\nsed = 1\n' >syntax.toml
expect 78 "syntax.toml:1:8:" "$thaw" plan syntax.toml
[ "$(wc -l <err)" -eq 1 ] || fail "a syntax error came with company"

# --set is checked like the file.
tiny_recipe >tiny.toml
expect 78 "optimizer.lrr" "$thaw" plan tiny.toml --set optimizer.lrr=1
expect 78 "optimizer.lr" "$thaw" plan tiny.toml --set optimizer.lr=fast
expect 78 "" "$thaw" plan tiny.toml --set phase.7.lr=1e-3
expect 78 "nosuchlayer" "$thaw" plan tiny.toml --set 'phase.1.freeze=["nosuchlayer"]'
expect 78 "" "$thaw" plan tiny.toml --set 'phase.1.freeze=["(unclosed"]'

# Files that are not what they should be.
expect 66 "gone" "$thaw" train tiny.toml --set data.train=gone-images-idx3-ubyte --set data.train_labels=gone
printf 'not an image file' >junk
expect 65 "junk" "$thaw" train tiny.toml --set "data.train=junk" --set "data.train_labels=junk"
expect 64 "unknown executor 'warp'" "$thaw" plan tiny.toml --executor warp
expect 66 "" "$thaw" plan tiny.toml --set model.path=absent
mkdir empty
expect 66 "" "$thaw" show empty
[ ! -e runs ] || fail "a failed start left a run folder"

# An output that cannot be made.
touch file
expect 73 "" "$thaw" train tiny.toml --run file/below

finish
