"""What torchvision says: names and shapes of its ResNets and MobileNetV2, and logits for a fixed input.

    python3 record_torchvision.py        # writes torchvision_tensors.txt.gz, torchvision_logits.txt

Made with Debian's python3-torchvision 0.14.1. The tests read the two files and need no Python.
Weights are those of `model.init = "by-name"`: u = (splitmix64 output >> 40) / 2^24 from the FNV-1a
of the name; buffers keep their start. Everything is computed in float64.
"""
import gzip
import math

import numpy
import torch
import torchvision

MASK = (1 << 64) - 1
ARCHS = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 wide_resnet101_2 "
    "resnext50_32x4d resnext101_32x8d resnext101_64x4d mobilenet_v2"
).split()


def uniform(name, n):
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    i = numpy.arange(1, n + 1, dtype=numpy.uint64)
    z = numpy.uint64(state) + i * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 16777216.0


def by_name(name, shape):
    n = math.prod(shape)
    u = uniform(name, n)
    if len(shape) >= 2:
        u = (2 * u - 1) * math.sqrt(3.0 / (n // shape[0]))
    elif name.endswith("weight"):
        u = 1 + 0.1 * (2 * u - 1)
    else:
        u = 0.1 * (2 * u - 1)
    return torch.from_numpy(u.astype(numpy.float32).astype(numpy.float64)).reshape(shape)


def start_by_name(net):
    for name, p in net.named_parameters():
        p.data = by_name(name, p.shape)


def image(n, size):
    b, h, w, c = numpy.meshgrid(*map(numpy.arange, (n, size, size, 3)), indexing="ij")
    x = (h * 31 + w * 17 + c * 7 + b * 13) % 29 / 14.0 - 1
    return torch.from_numpy(x.astype(numpy.float32).astype(numpy.float64)).permute(0, 3, 1, 2)


numpy.seterr(over="ignore")
if __name__ == "__main__":
    with gzip.GzipFile("torchvision_tensors.txt.gz", "wb", mtime=0) as out:
        for arch in ARCHS:
            state = getattr(torchvision.models, arch)().state_dict()
            out.write(f"{arch} {len(state)}\n".encode())
            for name, t in state.items():
                out.write(" ".join([name, *map(str, t.shape)]).encode() + b"\n")
    with open("torchvision_logits.txt", "w") as out:
        for arch in ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2"):
            net = getattr(torchvision.models, arch)(num_classes=10).double().eval()
            start_by_name(net)
            with torch.no_grad():
                logits = net(image(2, 64)).flatten().tolist()
            out.write(" ".join([arch, *map(repr, logits)]) + "\n")
