#!/bin/sh
# help.sh ROOT BUILD - every command and option is explained, and mistakes on the command line are
# named with a suggestion and exit code 64.
. "$(dirname "$0")/lib.sh"

expect 0 "usage: thaw COMMAND" "$thaw"
expect 0 "usage: thaw COMMAND" "$thaw" help
expect 0 "usage: thaw COMMAND" "$thaw" --help
expect 0 "thaw 0." "$thaw" version
has out "kernels: "
expect 0 "thaw 0." "$thaw" --version

commands="train resume eval plan show diff init freeze unfreeze lr help version"
"$thaw" help >all
for command in $commands; do
    has all "  $command"
    expect 0 "usage: thaw $command" "$thaw" help "$command"
    cp out help
    expect 0 "--help" "$thaw" "$command" --help
    same out help
done
expect 0 "optimizer" "$thaw" help recipe
for key in seed arch per_class weight_decay step_size freeze unfreeze lr_coefficients patience; do
    has out "$key"
done
expect 0 "|" "$thaw" help recipe --markdown
expect 0 " 75  stopped" "$thaw" help exit

expect 64 "unknown command 'trian' (did you mean 'train'?)" "$thaw" trian
expect 64 "unknown command 'frobnicate'" "$thaw" frobnicate
hasnt err "did you mean"
expect 64 "there is no help on 'recpie' (did you mean 'recipe'?)" "$thaw" help recpie
expect 64 "unknown option '--jsn' (did you mean '--json'?)" "$thaw" train --jsn r.toml
expect 64 "'thaw show' has no option --threads" "$thaw" show --threads 2 x
expect 64 "--run needs a value" "$thaw" train r.toml --run
expect 64 "--json takes no value" "$thaw" train r.toml --json=1
expect 64 "'zero' is no value for --threads" "$thaw" train r.toml --threads zero
expect 64 "'0' is no value for --threads" "$thaw" train r.toml --threads=0
expect 64 "'seed' is no value for --set" "$thaw" train r.toml --set seed
expect 64 "'thaw train' needs RECIPE" "$thaw" train
expect 64 "does not know what to do with 'b.toml'" "$thaw" train a.toml b.toml
expect 64 "does not know what to do with '--json'" "$thaw" train a.toml -- --json
expect 64 "needs a PATH, a --recipe, or both" "$thaw" eval
expect 64 "give it with --recipe" "$thaw" eval x --set seed=1
[ "$(wc -l <err)" -eq 1 ] || fail "an error of one line has $(wc -l <err)"

finish
