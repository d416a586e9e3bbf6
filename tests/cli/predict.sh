#!/bin/sh
# predict.sh ROOT BUILD - what a trained network says of files: the same as its evaluation, whatever
# way the files are named; files that cannot be read; numbers instead of classes.
. "$(dirname "$0")/lib.sh"

ten_pictures data
cat >pictures.toml <<END
[model]
arch = "resnet18"
widths = [8, 8, 16, 16]
blocks = [1, 1, 1, 1]
[data]
format = "folder"
train = "data"
image_size = 24
batch = 5
[optimizer]
name = "adam"
lr = 1e-3
[[phase]]
epochs = 2
END

expect 0 "" "$thaw" train pictures.toml --run run
expect 0 "train: 10 images" "$thaw" eval run --split train
share=$(sed -n 's/.*accuracy \([0-9]*\)\..*/\1/p' out)
expect 0 "" "$thaw" predict run data/cat/* data/dog/*
cp out plain
[ "$(wc -l <plain)" -eq 10 ] || fail "not an answer for each file"
right=$(grep -c -e 'data/\(cat\)/.*	\1	' -e 'data/\(dog\)/.*	\1	' plain)
[ "$right" -eq $((share / 10)) ] || fail "$right of 10 right, but the evaluation had $share%"

# The network's folder alone knows as much; names from standard input are as good as operands.
expect 0 "" "$thaw" predict run/checkpoints/step-* data/cat/* data/dog/*
same out plain
printf '%s\n' data/cat/* data/dog/* >list
expect 0 "" sh -c "'$thaw' predict run - <list"
same out plain
printf '%s\r\n' data/cat/* data/dog/* >list
expect 0 "" sh -c "'$thaw' predict run <list"
same out plain
printf '%s\000' data/cat/* data/dog/* >list
expect 0 "" sh -c "'$thaw' predict run <list"
same out plain
expect 65 "'data' is a folder: name the pictures in it" "$thaw" predict run data
expect 0 "" "$thaw" predict run --threads 1 data/cat/* data/dog/*
same out plain

# A bad file spoils its own answer alone.
echo "no picture" >text.jpg
expect 65 "'text.jpg' is no picture" "$thaw" predict run text.jpg data/cat/0-rgb.png
has out "data/cat/0-rgb.png"
expect 65 "" "$thaw" predict run --json text.jpg data/cat/0-rgb.png
has out '"error": '
has out '"name": "cat", "probability": 0.'
expect 66 "absent" "$thaw" predict absent text.jpg

# What a terminal would take for orders does not reach it, in names of files or of classes.
order=$(printf '\033[2J')
cp -r data told
mv told/cat "told/cat$order"
expect 65 "absent?[2J.png" "$thaw" predict run "absent$order.png"
expect 0 "" "$thaw" train pictures.toml --run told.run --set data.train=told
expect 0 "told/cat?[2J/0-rgb.png	" "$thaw" predict told.run "told/cat$order/0-rgb.png"
hasnt out "$order"
expect 0 "cat?[2J" "$thaw" eval told.run --split train

# Names that are no UTF-8, as other systems leave them, are JSON nevertheless.
odd=$(printf 'odd\377\355\240\200\360\237\222.png')
cp data/cat/0-rgb.png "$odd"
expect 65 "" "$thaw" predict run --json "$odd" "absent-$odd"
"$build/json_check" file <out >names || fail "names that are no UTF-8 make JSON that is none"
same_line=$(head -n 1 names)
[ "$same_line" = '"odd�������.png"' ] || fail "the name is told as $same_line"

# Numbers.
{
    echo file,value
    for file in data/*/*; do
        echo "$file,${#file}.5"
    done
} >list.csv
sed -e 's/"folder"/"csv"\ntarget = "number"/; s/"data"/"list.csv"/' pictures.toml >numbers.toml
expect 0 "" "$thaw" train numbers.toml --run numbers
expect 0 "data/cat/0-rgb.png	" "$thaw" predict numbers data/cat/0-rgb.png
expect 0 '"value": ' "$thaw" predict numbers data/cat/0-rgb.png --json
finish
