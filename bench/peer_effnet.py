#!/usr/bin/env python3
"""The examples in examples/pictures in PyTorch: the same weights, splits, phases and rates, read from the same recipe.

    peer_effnet.py RECIPE.toml SEED [scratch]

The phases are those of the recipe: who is frozen and which coefficient each layer has follow from its `freeze`,
`unfreeze` and `lr_coefficients`. AdamW is made anew in each phase, with a cosine over the phase; frozen norms stay in
evaluation mode. Prints a line for each phase: the accuracy on the pictures to check with and on those to test with.
"seconds" is everything since the start but the tests. With "scratch" the network starts from random weights and learns
with all of its layers, at the base rate, for as many epochs. Not the same bits: another order of the samples.
"""
import json
import math
import os
import re
import sys
import time

import numpy as np
import tomllib
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

BEGUN = time.monotonic()
BLOCKS = [(3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1)]


class Same(nn.Conv2d):
    """Padding as in TensorFlow: the odd zero at the end."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


class Block(nn.Module):
    """Layers are called what timm calls them: where nothing is expanded, the names move up by one."""

    def __init__(self, kernel, stride, before, after, expand):
        super().__init__()
        inner = before * expand
        if expand > 1:
            self.conv_pw, self.bn1 = Same(before, inner, 1, bias=False), norm(inner)
            self.conv_dw, self.bn2 = Same(inner, inner, kernel, stride, groups=inner, bias=False), norm(inner)
            self.conv_pwl, self.bn3 = Same(inner, after, 1, bias=False), norm(after)
        else:
            self.conv_dw, self.bn1 = Same(inner, inner, kernel, stride, groups=inner, bias=False), norm(inner)
            self.conv_pw, self.bn2 = Same(inner, after, 1, bias=False), norm(after)
        self.expands, self.adds = expand > 1, stride == 1 and before == after

    def forward(self, x):
        if self.expands:
            y = F.relu6(self.bn1(self.conv_pw(x)))
            y = F.relu6(self.bn2(self.conv_dw(y)))
            y = self.bn3(self.conv_pwl(y))
        else:
            y = F.relu6(self.bn1(self.conv_dw(x)))
            y = self.bn2(self.conv_pw(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv_stem, self.bn1 = Same(3, 32, 3, 2, bias=False), norm(32)
        stages, before = [], 32
        for stage, (kernel, stride, after, n) in enumerate(BLOCKS):
            stages.append(nn.Sequential())
            for i in range(n):
                stages[-1].append(Block(kernel, stride if i == 0 else 1, before, after, 6 if stage else 1))
                before = after
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = Same(320, 1280, 1, bias=False), norm(1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(x))))
        return self.classifier(F.relu6(self.bn2(self.conv_head(x))).mean((2, 3)))


def load_weights(net, path):
    """The package's tensors stand in the same order under other names; its head has another size."""
    theirs = [v for k, v in torch.load(path, map_location="cpu").items() if not k.startswith("_fc.")]
    ours = [v for k, v in net.state_dict().items() if not k.startswith("classifier.")]
    assert len(theirs) == len(ours)
    for to, value in zip(ours, theirs):
        assert to.shape == value.shape
        to.copy_(value)


class Pictures:
    """The pictures of a folder with a folder for each class, as uint8 [n, side, side, 3], made when they are first asked
    for: as they are to be judged, or one of the views that augmentation draws."""

    def __init__(self, folder, data):
        classes = sorted(os.listdir(folder), key=os.fsencode)
        self.files = [(os.path.join(folder, c, f), i) for i, c in enumerate(classes)
                      for f in sorted(os.listdir(os.path.join(folder, c)))]
        self.labels, self.n_classes = torch.tensor([i for _, i in self.files]), len(classes)
        self.data, self.made = data, {}

    def __len__(self):
        return len(self.files)

    def plain(self, picture):
        """Stretched to the side; or the shorter side to 8/7 of it, and the middle cut out."""
        side = self.data["image_size"]
        if self.data.get("crop") == "none":
            return picture.resize((side, side), Image.BILINEAR)
        scale = int(side / 0.875 + 0.5) / min(picture.size)
        picture = picture.resize([max(side, int(s * scale + 0.5)) for s in picture.size], Image.BILINEAR)
        x, y = (picture.width - side) // 2, (picture.height - side) // 2
        return picture.crop((x, y, x + side, y + side))

    def drawn(self, picture):
        """Mirrored or not, and a part of the picture where the recipe asks for one."""
        side, share = self.data["image_size"], self.data.get("random_resized_crop")
        made = self.plain(picture) if not share else picture.resize((side, side), Image.BILINEAR, part(picture.size, share))
        return made.transpose(Image.FLIP_LEFT_RIGHT) if self.data["flip"] and torch.rand(()) < 0.5 else made

    def images(self, view=None):
        if view not in self.made:
            make = self.plain if view is None else self.drawn
            self.made[view] = np.stack([np.asarray(make(Image.open(f).convert("RGB"))) for f, _ in self.files])
        return torch.from_numpy(self.made[view])

    def normal(self, pixels):
        """As the network takes them: [B, 3, side, side], the channels innermost in memory."""
        return ((pixels.float() / 255 - self.data["mean"]) / self.data["std"]).permute(0, 3, 1, 2)


def part(size, share):
    """A part with this share of the area, and sides as 3:4 to 4:3."""
    width, height = size
    for _ in range(10):
        area = width * height * float(torch.empty(()).uniform_(*share))
        ratio = math.exp(float(torch.empty(()).uniform_(math.log(3 / 4), math.log(4 / 3))))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(torch.randint(width - w + 1, ())), int(torch.randint(height - h + 1, ()))
            return x, y, x + w, y + h
    return 0, 0, width, height


def accuracy(net, pictures):
    net.eval()
    with torch.no_grad():
        guess = torch.cat([net(pictures.normal(x)).argmax(1) for x in pictures.images().split(100)])
    return float((guess == pictures.labels).float().mean())


class Policy:
    """Who learns, and how fast: the last word on a parameter counts."""

    def __init__(self, net):
        self.net = net
        self.learns = {name: True for name, _ in net.named_parameters()}
        self.coefficient = dict.fromkeys(self.learns, 1.0)

    def below(self, pattern):
        layers = [name for name, _ in self.net.named_modules() if name and re.fullmatch(pattern, name)]
        found = [p for p in self.learns if any(p.startswith(layer + ".") for layer in layers)]
        assert found, pattern
        return found

    def enter(self, phase):
        for key, value in phase.items():  # in the order in which they stand
            if key in ("freeze", "unfreeze"):
                for pattern in [value] if isinstance(value, str) else value:
                    self.learns.update(dict.fromkeys(self.below(pattern), key == "unfreeze"))
            elif key == "lr_coefficients":
                for pattern, coefficient in value.items():
                    self.coefficient.update(dict.fromkeys(self.below(pattern), coefficient))

    def groups(self, rate):
        """The optimizer's, one for each coefficient among those who learn."""
        params = dict(self.net.named_parameters())
        return [{"params": [params[p] for p in params if self.learns[p] and self.coefficient[p] == c], "lr": rate * c}
                for c in sorted({self.coefficient[p] for p in params if self.learns[p]})]

    def apply(self):
        for name, p in self.net.named_parameters():
            p.requires_grad_(self.learns[name])
        for m in self.net.modules():
            own = list(m.parameters(recurse=False))
            m.training = any(p.requires_grad for p in own)


def train(net, policy, rate, first, epochs, pictures):
    batch, views = RECIPE["data"]["batch"], RECIPE.get("cache", {}).get("views")
    optimizer = torch.optim.AdamW(policy.groups(rate), weight_decay=RECIPE["optimizer"]["weight_decay"])
    steps = epochs * math.ceil(len(pictures) / batch)
    curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (1 + math.cos(math.pi * k / steps)) / 2)
    policy.apply()
    for epoch in range(first, first + epochs):
        images = pictures.images(epoch % views if views else epoch)
        for pick in torch.randperm(len(pictures)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(pictures.normal(images[pick])), pictures.labels[pick]).backward()
            optimizer.step()
            curve.step()


def main():
    folder, data, scratch = os.path.dirname(sys.argv[1]), RECIPE["data"], sys.argv[3:] == ["scratch"]
    phases, tests, epoch = RECIPE["phase"], 0.0, 0
    torch.manual_seed(int(sys.argv[2]))
    pictures, valid, test = (Pictures(os.path.join(folder, data[split]), data) for split in ("train", "valid", "test"))
    net = Lite0(pictures.n_classes)
    if scratch:
        phases = [{"name": "scratch", "epochs": sum(p["epochs"] for p in phases)}]
    else:
        load_weights(net, os.path.join(folder, RECIPE["model"]["path"]))
    net = net.to(memory_format=torch.channels_last)
    policy = Policy(net)
    for phase in phases:
        policy.enter(phase)
        train(net, policy, phase.get("lr", RECIPE["optimizer"]["lr"]), epoch, phase["epochs"], pictures)
        epoch += phase["epochs"]
        line = {"phase": phase["name"], "valid": round(accuracy(net, valid), 4)}
        line["seconds"] = round(time.monotonic() - BEGUN - tests, 1)
        line["test"] = round(accuracy(net, test), 4)
        tests = time.monotonic() - BEGUN - line["seconds"]
        print(json.dumps(line), flush=True)


with open(sys.argv[1], "rb") as recipe:
    RECIPE = tomllib.load(recipe)
main()
