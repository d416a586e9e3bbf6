#!/bin/sh
# headers.sh ROOT - every public header compiles on its own, as C11 and as C++17, without a warning.
set -eu
root=$1
cc=${CC:-cc}
cxx=${CXX:-c++}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

warn="-Wall -Wextra -Werror -pedantic -Wundef -Wshadow"
for header in status control thaw; do
    printf '#include <thaw/%s.h>\n#include <thaw/%s.h>\nint main(void);\nint main(void) { return THAW_OK; }\n' \
        $header $header >"$folder/$header.c"
    cp "$folder/$header.c" "$folder/$header.cpp"
    $cc -std=c11 $warn -Wstrict-prototypes -I"$root/include" -fsyntax-only "$folder/$header.c"
    $cxx -std=c++17 $warn -I"$root/include" -fsyntax-only "$folder/$header.cpp"
    echo "<thaw/$header.h>: C11 and C++17"
done
