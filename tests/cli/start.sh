#!/bin/sh
# start.sh ROOT BUILD - a new user in an empty folder: ten pictures in two classes, one `thaw init`
# and one `thaw train`; then the other things that people have.
. "$(dirname "$0")/lib.sh"
from=$root/tests/data/pictures

ten_pictures pictures

# The network to start from: one that a run has left.
cat >small.toml <<END
[model]
arch = "resnet18"
widths = [8, 8, 16, 16]
blocks = [1, 1, 1, 1]
stem = "small"
[data]
format = "folder"
train = "pictures"
image_size = 24
valid_fraction = 0.2
[[phase]]
epochs = 1
END
expect 0 "finished" "$thaw" train small.toml --run small
cp -r small/best network

expect 0 "three phases: the head, the upper half, then everything" "$thaw" init network pictures
cp out recipe.toml
has recipe.toml "8 images to learn from, 2 to check with, in 2 classes: cat 5, dog 5"
has recipe.toml "each of them is 50 points of the accuracy"
has recipe.toml "batch = 4 "
has recipe.toml "image_size = 24 "
expect 0 "finished" "$thaw" train recipe.toml --run run
has out "the best weights, with an accuracy of "
has out "are in 'run/best'"
has out "next: thaw report run; thaw eval run; thaw predict run/best FILE..."
for phase in head "upper half" all; do
    grep -q "^$phase  " out || fail "the table at the end has no phase '$phase'"
done
expect 0 "accuracy" "$thaw" eval run --split train
grep -q '^class *images *recall *precision$' out || fail "eval has no table of classes"
grep -q '^dog  *4  ' out || fail "eval does not name the classes"
grep -q '^  *cat  *dog$' out || fail "the matrix has no names"
hasnt out "top-5"
expect 0 "" "$thaw" eval run --json
"$build/json_check" classes per_class accuracy top5 <out >values || fail "eval --json is no JSON"
has values '["cat","dog"]'
has values '"support":1'

# The same with splits, and with numbers to predict.
mkdir -p split/train split/val
cp -r pictures/* split/train
cp -r pictures/* split/val
expect 0 '/split/val"' "$thaw" init network split
cp out recipe.toml
hasnt recipe.toml "valid_fraction"
expect 0 "phase 3 of 3: all" "$thaw" plan recipe.toml
{
    echo file,value
    for file in pictures/*/*; do
        echo "$file,${#file}.5"
    done
} >list.csv
expect 0 'target = "number"' "$thaw" init network list.csv --epochs 3
cp out recipe.toml
expect 0 "finished" "$thaw" train recipe.toml --run numbers --quiet
expect 0 "random weights" "$thaw" init resnet18 "$fashion"
has out "mean = 0.286"

# Nothing to check with: the last weights are what is left.
sed '/valid_fraction/d' recipe.toml >unjudged.toml
expect 0 "finished; the weights are in 'unjudged/best'" "$thaw" train unjudged.toml --run unjudged
[ -e unjudged/best/model.safetensors ] || fail "no weights were left"
expect 0 "" "$thaw" show unjudged/best

# What people get wrong.
mkdir -p one/cat broken
cp pictures/cat/* one/cat
expect 65 "has one class alone, 'cat'" "$thaw" init network one
cp -r pictures/* broken
head -c 300 "$from/colour.jpg" >broken/dog/damaged.jpg
expect 0 "5" "$thaw" init network broken
cp out recipe.toml
expect 0 "damaged.jpg' is no good JPEG" "$thaw" train recipe.toml --run broken-run
has out "another picture of its class takes its place"
expect 65 'remove it, or set data.broken = "skip"' "$thaw" train recipe.toml --run refused --set data.broken=refuse
mkdir -p two/cat two/dog
cp pictures/cat/*rgb.png two/cat
cp "$from/resize_hard.png" two/dog
expect 65 "has no class with two pictures" "$thaw" init network two
cp pictures/cat/* two/cat
expect 0 "Nothing is left to check with of the class dog" "$thaw" init network two
: >two/dog/resize_hard.png
rm two/cat/*
: >two/cat/empty.png
: >two/cat/too.png
expect 65 "has no pictures that can be read: '" "$thaw" init network two
expect 66 "'picture' is not there" "$thaw" init network picture
expect 65 "has no folders in it, only pictures" "$thaw" init network pictures/cat
expect 66 "did you mean 'resnet18'" "$thaw" init resnet19 pictures
[ ! -s out ] || fail "half a recipe is printed"

finish
