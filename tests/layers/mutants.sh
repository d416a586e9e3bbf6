#!/bin/sh
# mutants.sh ROOT - the layer test is itself tested: a breach of each rule, put into a copy of the
# sources, must turn it red and be named.
set -eu
root=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bad=0
n=0

fresh() {
    rm -rf "$folder/t"
    mkdir "$folder/t"
    for part in src cli include cmake tests examples bench; do
        [ ! -d "$root/$part" ] || tar -C "$root" --exclude=examples/pictures/data -cf - "$part" | tar -C "$folder/t" -xf -
    done # all but the pictures that somebody may have fetched there
    cd "$folder/t"
}

# expect TEXT: the test over the mutated copy fails and says TEXT
expect() {
    n=$((n + 1))
    if sh tests/layers/layers.sh . >"$folder/out" 2>&1; then
        echo "mutants: not noticed: $1"
        bad=1
    elif ! grep -qF "$1" "$folder/out"; then
        echo "mutants: red, but without '$1':"
        cat "$folder/out"
        bad=1
    fi
}

# insert FILE LINE: a line at the end of a file
insert() {
    printf '%s\n' "$2" >>"$1"
}

fresh; sh tests/layers/layers.sh . >"$folder/out" || { cat "$folder/out"; exit 1; }

fresh; insert src/core/tree.c '#include "tensor/tensor.h"';     expect 'core may not include tensor'
fresh; insert src/exec/exec.c '#include "optim/optim.h"';       expect 'exec may not include optim'
fresh; insert src/graph/graph.h '#include "plan/plan.h"';       expect 'graph may not include plan'
fresh; insert src/plan/plan.h '#include "exec/exec.h"';         expect 'plan may not include exec'
fresh; insert src/base/str.c '#include "core/core.h"';          expect 'base may not include core'
fresh; insert src/exec/exec.c '#include <oneapi/dnnl/dnnl.h>';  expect 'is fenced in'
fresh; insert src/train/toml.c '#include <mpi.h>';              expect 'is fenced in'
fresh; insert src/graph/graph.c '#include <pcre2.h>';           expect 'is fenced in'
fresh; insert src/plan/plan.h '#include "memplan.h"';           expect 'included without its layer'
fresh; insert cli/main.c '#include "core/core.h"';              expect 'cli may include'
fresh; insert cli/main.c '#include <thaw/control.h>';           expect 'cli may include'
fresh; insert src/core/core.h '#include <thaw/thaw.h>';         expect 'core stands on'
fresh; insert src/core/tree.c 'static void *f(void) { return malloc(8); }'; expect 'memory comes from'
fresh; insert cli/main.c 'static void *f(void) { return calloc(8, 1); }';   expect 'memory comes from'
fresh; insert src/core/tree.c 'static void f(void) { printf("x"); }';       expect 'neither prints'
fresh; insert src/core/tree.c 'static void f(void) { exit(1); }';           expect 'neither prints'
fresh; insert src/core/tree.c 'static double f(char *s) { return atof(s); }'; expect 'the locale'
fresh; yes '' | head -n 801 >>src/core/tree.c;                  expect 'more than 800 lines'
fresh; cp src/core/tree.c src/base/tree.c;                      expect 'has the name of'
fresh; cp src/core/tree.c src/core/tree2.c;                     expect 'not listed in cmake/sources.cmake'
fresh; mkdir src/extra; echo '#include "extra/extra.h"' >src/extra/extra.c; expect 'is no layer'
fresh; { echo '#include <stdio.h>'; cat src/core/tree.c; } >x; mv x src/core/tree.c
expect 'the first include is not'

[ $bad -eq 0 ] || exit 1
echo "mutants: $n breaches, all noticed"
