#!/bin/sh
# pictures.sh ROOT BUILD - training on a folder of ten pictures and on a list, as a new user would:
# what is printed, what is saved, that a stop and a resume change nothing, and broken files.
. "$(dirname "$0")/lib.sh"
from=$root/tests/data/pictures

ten_pictures data
mkdir data/dog/below
mv data/dog/0.png data/dog/below/
cat >pictures.toml <<END
[model]
arch = "resnet18"
widths = [8, 8, 16, 16]
blocks = [1, 1, 1, 1]
stem = "small"
[data]
format = "folder"
train = "data"
valid_fraction = 0.2
image_size = 24
batch = 3
flip = true
random_resized_crop = [0.5, 1.0]
colour_jitter = [0.2, 0.2, 0.2]
workers = 2
[optimizer]
name = "adam"
lr = 3e-3
[checkpoint]
every = "off"
[[phase]]
name = "head"
epochs = 1
freeze = ["conv1", "bn1", "layer[1-4]"]
[[phase]]
name = "all"
epochs = 5
unfreeze = [".*"]
END

expect 0 "8 pictures in 2 classes" "$thaw" train pictures.toml --run runs/a
has out "made 24x24x3"
has out "phase 2/2 all"
grep -q '"id2label": {"0": "cat", "1": "dog"}' runs/a/best/config.json || fail "no names of classes"
for folder in runs/a/best runs/a/checkpoints/step-*; do
    grep -q '"shortest_edge": 27' "$folder/preprocessor_config.json" || fail "$folder does not say how pictures are prepared"
done
expect 0 "valid: 2 images" "$thaw" eval runs/a
expect 0 "train: 8 images" "$thaw" eval runs/a --split train

# One worker or many, whole or resumed: the same bits.
expect 0 "" "$thaw" train pictures.toml --run runs/b --set data.workers=1 --set data.prefetch=false
same runs/a/best/model.safetensors runs/b/best/model.safetensors
step=$(cd runs/a/checkpoints && ls -d step-* | tail -n 1)
first=$(cd runs/b/checkpoints && ls -d step-* | head -n 1)
for later in runs/b/checkpoints/step-*; do
    [ "$later" = "runs/b/checkpoints/$first" ] || rm -r "$later"
done
expect 0 "going on from" "$thaw" resume runs/b
same "runs/a/checkpoints/$step/model.safetensors" "runs/b/checkpoints/$step/model.safetensors"

# What was saved prepares pictures as it was trained on, unless told otherwise.
sed -e 's/^arch.*/path = "runs\/a\/best"/; /^widths/d; /^blocks/d; /^stem/d; /^image_size/d' pictures.toml >tuned.toml
expect 0 "made 24x24x3" "$thaw" train tuned.toml --run runs/t
grep -q '^resize_to = 27' runs/t/recipe.toml || fail "the folder's preprocessing was not taken over"

# Numbers instead of classes.
{
    echo file,value
    for file in data/*/*.*; do
        echo "$file,${#file}.5"
    done
} >list.csv
sed -e 's/"folder"/"csv"\ntarget = "number"/; s/"data"/"list.csv"/' pictures.toml >numbers.toml
expect 0 "with a number each" "$thaw" train numbers.toml --run runs/n
has out "guessing their mean"
has out "RMSE"
has out "MAE"
expect 0 "RMSE" "$thaw" eval runs/n
expect 0 "" "$thaw" eval runs/n --json
"$build/json_check" rmse mae <out >/dev/null || fail "eval --json is no JSON"
grep -q '"problem_type": "regression"' runs/n/best/config.json || fail "not told to be a regression"

# A picture that is said to be two things is a mistake for one of them, and told by its name.
mkdir -p both/cat both/dog
cp "$from/rgb.png" both/cat/same.png
cp "$from/rgb.png" both/dog/same.png
expect 0 "" "$thaw" train pictures.toml --run runs/m --set data.valid=both --set data.valid_fraction=0
expect 0 "1 of 2 right" "$thaw" report runs/m --text
has out "/same.png: is '"
expect 0 "" "$thaw" report runs/m
grep -q "sure), [a-z]*/same.png</figcaption>" runs/m/report.html || fail "the mistake is not told by its name"

# Broken files are named, and left out on request.
: >data/cat/empty.jpg
head -c 300 "$from/resize_photo.png" >data/dog/cut.png
expect 65 "empty.jpg' is empty" "$thaw" train pictures.toml --run runs/x
has err 'data.broken = "skip"'
expect 0 "empty.jpg' is empty; it is left out" "$thaw" train pictures.toml --run runs/y --set data.broken=skip
has out "ends too early; another picture of its class takes its place"

# What people get wrong.
expect 65 "has no folders in it, only pictures" "$thaw" train pictures.toml --run runs/z --set data.train=data/cat
expect 78 "no effect with data.format = 'folder'" "$thaw" plan pictures.toml --set data.scale=2
expect 78 "loss.name = 'mse'" "$thaw" plan numbers.toml --set loss.name=cross_entropy

finish
