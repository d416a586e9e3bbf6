#!/usr/bin/env python3
"""make.py - writes the pictures of this folder and what Pillow makes of them, beside each as .ppm.

Run by hand when a case is added (Pillow 9.4, numpy); the results are committed, so that no test
needs Python. Expected pixels are Pillow's, upright, as RGB; only for 16-bit grey we take the upper
byte, where Pillow clips.
"""
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)


def ppm(name, image):
    image = image.convert("RGB")
    with open(os.path.join(here, name + ".ppm"), "wb") as f:
        f.write(b"P6 %d %d 255\n" % image.size + image.tobytes())


def scene(width, height):
    """Smooth colours with edges and a little noise, so that rounding shows."""
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 / width, y * 255 / height, (x + y) % 64 * 4], -1)
    a[height // 3 : height // 2, width // 4 : width // 2] = [250, 10, 90]
    a += rng.normal(0, 12, a.shape)
    return Image.fromarray(a.clip(0, 255).astype(np.uint8))


def keep(name, data, expected=None):
    with open(os.path.join(here, name), "wb") as f:
        f.write(data)
    if expected is None:
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    ppm(name, expected)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name, data):
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(rows, depth, colour, extra=b"", interlaced=False):
    """rows [H, W, C] of uint8 or uint16, or [H, bytes] already packed."""
    height, width = rows.shape[:2]
    def lines(part):
        big = part.astype(">u2") if depth == 16 else part.astype(np.uint8)
        return b"".join(b"\0" + big[i].tobytes() for i in range(len(big)))
    if interlaced:
        data = b"".join(lines(rows[y::dy, x::dx]) for x, y, dx, dy in ADAM7 if rows[y::dy, x::dx].size)
    else:
        data = lines(rows)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra
            + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


def files():
    photo = scene(29, 22)
    keep("rgb.png", saved(photo, "PNG"))
    keep("grey.png", saved(photo.convert("L"), "PNG"))
    keep("bits1.png", saved(photo.convert("1"), "PNG"))
    keep("palette.png", saved(photo.quantize(16), "PNG"))
    keep("palette_clear.png", saved(photo.quantize(16), "PNG", transparency=3))
    alpha = photo.copy()
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (22, 29), dtype=np.uint8)))
    keep("alpha.png", saved(alpha, "PNG"))
    keep("grey_alpha.png", saved(alpha.convert("LA"), "PNG"))
    deep = rng.integers(0, 65536, (22, 29, 3), dtype=np.uint16)
    keep("deep.png", png(deep, 16, 2), Image.fromarray((deep >> 8).astype(np.uint8)))
    keep("deep_grey.png", png(deep[..., :1], 16, 0),
         Image.fromarray((deep[..., 0] >> 8).astype(np.uint8)))
    keep("interlaced.png", png(np.asarray(photo), 8, 2, interlaced=True))
    keep("turned.png", saved(photo, "PNG", exif=exif(6)))
    keep("colour.jpg", saved(photo, "JPEG", quality=90))
    keep("full_chroma.jpg", saved(photo, "JPEG", quality=95, subsampling=0))
    keep("grey.jpg", saved(photo.convert("L"), "JPEG"))
    keep("progressive.jpg", saved(photo, "JPEG", progressive=True))
    keep("cmyk.jpg", saved(photo.convert("CMYK"), "JPEG", quality=95))
    for orientation in range(1, 9):
        keep(f"turned{orientation}.jpg", saved(scene(11, 7), "JPEG", quality=92, exif=exif(orientation)))


def resized():
    filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
    photo = scene(67, 45)
    hard = Image.fromarray(rng.choice([0, 255], (45, 67, 3)).astype(np.uint8))
    for name, image in (("photo", photo), ("hard", hard), ("plain", photo.convert("L"))):
        keep(f"resize_{name}.png", saved(image, "PNG"))
        for word, method in filters.items():
            for width, height in ((20, 14), (67, 10), (96, 70), (13, 45), (1, 1)):
                ppm(f"resize_{name}_{word}_{width}x{height}", image.resize((width, height), method))
    crop = photo.crop((5, 3, 53, 40)).resize((24, 24), Image.BICUBIC)
    ppm("resize_photo_cropped", crop)


def coloured():
    photo = scene(31, 20)
    keep("colours.png", saved(photo, "PNG"))
    for factor in (0.0, 0.4, 1.0, 1.7):
        for word, enhance in (("brightness", ImageEnhance.Brightness),
                              ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)):
            ppm(f"colours_{word}_{factor}", enhance(photo).enhance(factor))


files()
resized()
coloured()
