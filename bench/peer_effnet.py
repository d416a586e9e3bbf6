#!/usr/bin/env python3
"""The examples in examples/pictures in PyTorch: the same weights, splits, phases and rates.

    peer_effnet.py WEIGHTS.pth FOLDER stretch|crop SEED [scratch]

FOLDER has train/ and test/ as examples/pictures/fetch.sh makes them (fashion: stretch, stamps: crop). Phases, rates and augmentation
are those of fashion.toml and stamps.toml: AdamW made anew in each phase, cosine over the phase, frozen
parts in evaluation mode. Prints the accuracy on test/ after each phase. With "scratch" everything
learns from random weights for as many epochs. Not the same bits: another order of the samples.
"""
import json
import math
import os
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

WEIGHTS, FOLDER, CROPS, SEED = sys.argv[1], sys.argv[2], sys.argv[3] == "crop", int(sys.argv[4])
SCRATCH = sys.argv[5:] == ["scratch"]
SIDE, BATCH, RATE, DECAY = 96, 20, 3e-3, 0.01
BLOCKS = [(3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1)]
UPPER = 5  # the first block of the upper half, counted through
EPOCHS = (10, 8, 8)


class Same(nn.Conv2d):
    """Padding as in TensorFlow: the odd zero at the end."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(self, kernel, stride, before, after, expand):
        super().__init__()
        inner = before * expand
        if expand > 1:
            self._expand_conv, self._bn0 = Same(before, inner, 1, bias=False), norm(inner)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = norm(inner)
        self._project_conv, self._bn2 = Same(inner, after, 1, bias=False), norm(after)
        self.expands, self.adds = expand > 1, stride == 1 and before == after

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2, bias=False), norm(32)
        blocks, before = [], 32
        for stage, (kernel, stride, after, n) in enumerate(BLOCKS):
            for i in range(n):
                blocks.append(Block(kernel, stride if i == 0 else 1, before, after, 6 if stage else 1))
                before = after
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(320, 1280, 1, bias=False), norm(1280)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x):
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


def load(path):
    """Stretched to the side; or the shorter side to 8/7 of it, and the middle cut out."""
    picture = Image.open(path).convert("RGB")
    if CROPS:
        scale = int(SIDE / 0.875 + 0.5) / min(picture.size)
        picture = picture.resize([max(SIDE, int(s * scale + 0.5)) for s in picture.size], Image.BILINEAR)
        x, y = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        picture = picture.crop((x, y, x + SIDE, y + SIDE))
    else:
        picture = picture.resize((SIDE, SIDE), Image.BILINEAR)
    return (np.asarray(picture, np.float32) / 255 - 0.498) / 0.502


def read(folder):
    classes = sorted(os.listdir(folder), key=os.fsencode)
    files = [(os.path.join(folder, c, f), i) for i, c in enumerate(classes)
             for f in sorted(os.listdir(os.path.join(folder, c)))]
    images = np.stack([load(f) for f, _ in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor([i for _, i in files]), len(classes)


def accuracy(net, images, labels):
    net.eval()
    with torch.no_grad():
        guess = torch.cat([net(x).argmax(1) for x in images.split(100)])
    return float((guess == labels).float().mean())


def train(net, groups, epochs, images, labels):
    """groups: modules that train, each with its coefficient; the others are frozen, and judge as in evaluation."""
    net.requires_grad_(False)
    net.eval()
    for modules, _ in groups:
        for m in modules:
            m.requires_grad_(True)
            m.train()
    optimizer = torch.optim.AdamW(
        [{"params": [p for m in modules for p in m.parameters()], "lr": RATE * c} for modules, c in groups],
        weight_decay=DECAY)
    steps = epochs * math.ceil(len(images) / BATCH)
    curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (1 + math.cos(math.pi * k / steps)) / 2)
    for _ in range(epochs):
        for pick in torch.randperm(len(images)).split(BATCH):
            x = images[pick]
            mirrored = torch.rand(len(x)) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(x), labels[pick]).backward()
            optimizer.step()
            curve.step()


def main():
    torch.manual_seed(SEED)
    images, labels, classes = read(os.path.join(FOLDER, "train"))
    test = read(os.path.join(FOLDER, "test"))[:2]
    net = Lite0(classes)
    if not SCRATCH:
        state = torch.load(WEIGHTS, map_location="cpu")
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc.")}, strict=False)
    blocks = list(net._blocks)
    head, stem = [net._fc], [net._conv_stem, net._bn0]
    upper, lower = blocks[UPPER:] + [net._conv_head, net._bn1], stem + blocks[:UPPER]
    phases = [("head", [(head, 1)]), ("upper half", [(head, 1), (upper, 0.3)]),
              ("all", [(head, 1), (upper, 0.3), (lower, 0.1)])]
    if SCRATCH:
        phases = [("all", [(head + upper + lower, 1)])]
    for (name, groups), epochs in zip(phases, [sum(EPOCHS)] if SCRATCH else EPOCHS):
        begun = time.monotonic()
        train(net, groups, epochs, images, labels)
        print(json.dumps({"phase": name, "seconds": round(time.monotonic() - begun, 1),
                          "test": round(accuracy(net, *test), 4), "seed": SEED}), flush=True)


main()
