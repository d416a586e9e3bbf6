#!/usr/bin/env python3
"""peer_pillow.py - what bench_pictures does, with Pillow and numpy, on threads of one process (the
decoder and the resizer let go of Python's lock). "make FOLDER" writes the photographs for both.
"""
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def make(folder, n=64, size=(500, 375)):
    """Smooth colours with edges and noise: about as large as photographs of this size are."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    for i in range(n):
        os.makedirs(f"{folder}/{i % 4}", exist_ok=True)
        a = 110 + 60 * np.stack([np.sin(x / rng.uniform(9, 60) + c) + np.cos(y / rng.uniform(9, 60) - c) for c in range(3)], -1)
        for _ in range(30):
            top, left = rng.integers(0, size[1] - 40), rng.integers(0, size[0] - 40)
            a[top : top + rng.integers(5, 120), left : left + rng.integers(5, 120)] += rng.normal(0, 40, 3)
        a += rng.normal(0, 6, a.shape)
        Image.fromarray(a.clip(0, 255).astype(np.uint8)).save(f"{folder}/{i % 4}/{i:03}.jpg", quality=90)


def prepare(out, path):
    image = Image.open(path).convert("RGB")
    w, h = image.size
    w, h = (256, int(256 * h / w)) if w <= h else (int(256 * w / h), 256)
    image = image.resize((w, h), Image.BILINEAR)
    left, top = round((w - 224) / 2), round((h - 224) / 2)
    image = image.crop((left, top, left + 224, top + 224))
    a = np.asarray(image, np.float32)
    a /= 255
    a -= MEAN
    a /= STD
    out[...] = a


def measure(files, threads, passes=5, batch=32):
    out = np.empty((batch, 224, 224, 3), np.float32)
    best = 1e30
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(passes):
            start = time.perf_counter()
            for i in range(0, len(files), batch):
                part = files[i : i + batch]
                if threads == 1:
                    for k, path in enumerate(part):
                        prepare(out[k], path)
                else:
                    list(pool.map(prepare, out, part))
            best = min(best, time.perf_counter() - start)
    print(f"{threads} thread{' ' if threads == 1 else 's'}: {len(files) / best:.1f} images/s")


if len(sys.argv) > 2 and sys.argv[1] == "make":
    make(sys.argv[2])
elif len(sys.argv) > 1:
    found = sorted(os.path.join(d, f) for d, _, names in os.walk(sys.argv[1]) for f in names)
    for count in [int(a) for a in sys.argv[2:]] or [1, 2]:
        measure(found, count)
else:
    sys.exit(__doc__)
