"""Images of the MNIST family as PNG files, in a folder for each class. Needs nothing but Python.

idx_to_png.py PREFIX FOLDER [--skip N] [--first N] [--per-class N]
"""
import argparse
import gzip
import os
import struct
import zlib

CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(pixels, height, width):
    rows = b"".join(b"\0" + pixels[y * width : (y + 1) * width] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("prefix")
    parser.add_argument("folder")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--first", type=int)
    parser.add_argument("--per-class", type=int)
    args = parser.parse_args()

    with gzip.open(args.prefix + "-images-idx3-ubyte.gz") as file:
        _, n, height, width = struct.unpack(">IIII", file.read(16))
        images = file.read()
    with gzip.open(args.prefix + "-labels-idx1-ubyte.gz") as file:
        labels = file.read()[8:]
    end = n if args.first is None else min(n, args.skip + args.first)
    taken = [0] * len(CLASSES)
    for i in range(args.skip, end):
        label = labels[i]
        if args.per_class is not None and taken[label] >= args.per_class:
            continue
        taken[label] += 1
        folder = os.path.join(args.folder, CLASSES[label])
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{i:05}.png"), "wb") as file:
            file.write(png(images[i * height * width : (i + 1) * height * width], height, width))


main()
