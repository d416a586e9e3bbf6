#!/bin/sh
# install.sh ROOT BUILD - an installed tree is enough to build programs with pkg-config, from C and
# from C++, and the libraries show the public symbols only. SANITIZE has the flags of a build under
# sanitizers.
set -eu
build=$(cd "$2" && pwd)
cc=${CC:-cc}
cxx=${CXX:-c++}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
    echo "install: $*"
    exit 1
}

DESTDIR='' cmake --install "$build" --prefix "$folder/first" >install.log
# The tree may be moved afterwards.
mv first prefix
PKG_CONFIG_PATH=$(dirname "$(find prefix -name thaw.pc)")
PKG_CONFIG_PATH=$folder/$PKG_CONFIG_PATH
lib=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH
export LD_LIBRARY_PATH="$lib"

for file in bin/thaw include/thaw/thaw.h include/thaw/control.h include/thaw/status.h; do
    [ -e "prefix/$file" ] || fail "no $file"
done
[ "$(prefix/bin/thaw version | head -n 1)" = "thaw $(pkg-config --modversion thaw)" ] ||
    fail "the program and thaw.pc differ in version"

# What a library shows: thaw_name, never thaw__name.
for name in thaw thaw-core; do
    nm -D --defined-only "$lib/lib$name.so" | awk '{ print $NF }' >shown.$name.so
    nm -g --defined-only "$lib/lib$name.a" | awk 'NF == 3 { print $NF }' >shown.$name.a
    for kind in so a; do
        grep -q '^thaw_error$' shown.$name.$kind || fail "lib$name.$kind does not show thaw_error"
        if grep -Ev '^(thaw_[a-z]|__asan|__odr_asan|_init$|_fini$)' shown.$name.$kind; then
            fail "lib$name.$kind shows these"
        fi
    done
    readelf -d "$lib/lib$name.so" | grep -q "SONAME.*\[lib$name.so.0\]" || fail "soname of lib$name"
done
grep -q '^thaw_train$' shown.thaw.so || fail "libthaw.so does not show thaw_train"
# shellcheck disable=SC2013
for symbol in $(cat shown.thaw-core.so); do
    grep -qx "$symbol" shown.thaw.so || fail "libthaw.so lacks '$symbol' of libthaw-core"
done
if readelf -d "$lib/libthaw-core.so" | grep NEEDED | grep -Ev 'pcre2|ld-linux|libc\.so|libm\.so|libasan|libubsan|libgcc_s|libclang_rt'; then
    fail "libthaw-core.so needs these"
fi

cat >whole.c <<'END'
#include <thaw/thaw.h>
#include <stdio.h>
/* Names of its own that the library uses inside. */
int philox(void);
int philox(void) { return 3; }
int text_add(void);
int text_add(void) { return 4; }
int main(void)
{
    thaw_recipe *recipe = NULL;

    if (thaw_recipe_load(&recipe, "absent.toml", NULL, 0) != THAW_E_MISSING)
        return 1;
    printf("%s %d\n", thaw_version(), philox() + text_add());
    thaw_recipe_destroy(recipe);
    return 0;
}
END
cat >core.c <<'END'
#include <thaw/control.h>
int main(void)
{
    thaw_tree *tree = NULL;
    int status = thaw_tree_create(&tree);

    if (status == THAW_OK)
        status = thaw_tree_add_param(tree, "head.weight", 10, false);
    if (status == THAW_OK)
        status = thaw_tree_seal(tree);
    if (status == THAW_OK && thaw_tree_find_param(tree, "head.weight") != 0)
        status = THAW_E_INTERNAL;
    thaw_tree_destroy(tree);
    return status;
}
END
cp whole.c whole.cpp
cp core.c core.cpp
static_libs() { # the archive itself, then what it needs
    echo "$lib/lib$1.a $(pkg-config --static --libs "$1" | sed "s/-l$1\b//")"
}
# shellcheck disable=SC2046,SC2086
for program in whole:thaw core:thaw-core core:thaw; do
    source=${program%:*}
    name=${program#*:}
    $cc ${SANITIZE:-} -std=c11 $source.c -o c $(pkg-config --cflags --libs "$name") && ./c
    $cxx ${SANITIZE:-} -std=c++17 $source.cpp -o cpp $(pkg-config --cflags --libs "$name") && ./cpp
    $cc ${SANITIZE:-} -std=c11 $source.c -o static $(pkg-config --cflags "$name") $(static_libs "$name")
    (unset LD_LIBRARY_PATH && ./static)
done
echo "install: programs build and run, shared and static"
