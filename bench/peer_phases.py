#!/usr/bin/env python3
"""bench_phases in PyTorch at its best on processors: the same weights, images, order and phases.

    peer_phases.py FOLDER BATCH SIDE THREADS IMAGES PHASE…

PHASE is FROZEN:EPOCHS, as for bench_phases, and so is what is printed. What is frozen is in evaluation
mode and runs without gradients. Channels last; gradients set to None; SGD with momentum. Environment:
PEER_KEEP=1: features of the frozen stages are computed once a phase and kept; PEER_BF16=1: autocast;
PEER_COMPILE=1: torch.compile. Each image is a window of one strip of noise; the network is the folder's.
"""
import json
import os
import sys
import time

FOLDER, (BATCH, SIDE, THREADS, IMAGES) = sys.argv[1], map(int, sys.argv[2:6])
PHASES = [tuple(map(int, p.split(":"))) for p in sys.argv[6:]]
LAUNCHED = float(os.environ.get("BENCH_LAUNCHED", time.monotonic()))
KEEP, BF16, COMPILE = (os.environ.get("PEER_" + name) == "1" for name in ("KEEP", "BF16", "COMPILE"))
STRIDE, CLASSES = 993, 1000

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402


def read_safetensors(path):
    raw = np.memmap(path, dtype=np.uint8, mode="c")
    begin = 8 + int(raw[:8].view("<u8")[0])
    types = {"F32": np.float32, "I64": np.int64}
    return {name: torch.from_numpy(
        raw[begin + t["data_offsets"][0]:begin + t["data_offsets"][1]].view(types[t["dtype"]])
        .reshape(t["shape"]))
        for name, t in json.loads(bytes(raw[8:begin])).items() if name != "__metadata__"}


def hashed(i):
    """Numbers from a counter alone, as in bench_phases.c."""
    i = i.astype(np.uint32) * np.uint32(2654435761)
    i = (i ^ i >> 16) * np.uint32(0x45D9F3B)
    return i ^ i >> 16


def batch(k):
    index = np.arange(k * BATCH, (k + 1) * BATCH)
    size = SIDE * SIDE * 3
    images = np.stack([NOISE[i * STRIDE:i * STRIDE + size] for i in index])
    labels = hashed(index + 1000000) % np.uint32(CLASSES)
    images = torch.from_numpy(images).view(BATCH, SIDE, SIDE, 3).permute(0, 3, 1, 2)  # channels last
    return images, torch.from_numpy(labels.astype(np.int64))


def parts_of(model):
    return [torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool), model.layer1,
            model.layer2, model.layer3, model.layer4,
            torch.nn.Sequential(model.avgpool, torch.nn.Flatten(1), model.fc)]


torch.set_num_threads(THREADS)
with open(os.path.join(FOLDER, "config.json")) as f:
    ARCH = "resnet%d" % {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50, (3, 4, 23, 3): 101}[
        tuple(json.load(f)["blocks"])]
model = getattr(torchvision.models, ARCH)(weights=None)
model.load_state_dict(read_safetensors(os.path.join(FOLDER, "model.safetensors")))
model = model.to(memory_format=torch.channels_last)
parts = parts_of(model)
NOISE = ((hashed(np.arange(SIDE * SIDE * 3 + IMAGES * STRIDE)) >> 8) / np.float32(8388608) - 1).astype(
    np.float32)


def phase(number, n_frozen, epochs):
    for i, part in enumerate(parts):
        part.train(i >= n_frozen).requires_grad_(i >= n_frozen)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.005,
                                momentum=0.9)
    prefix, rest = torch.nn.Sequential(*parts[:n_frozen]), torch.nn.Sequential(*parts[n_frozen:])
    if n_frozen == 5 and KEEP:  # what is kept of the whole body is small
        prefix, rest = torch.nn.Sequential(prefix, *parts[5][:2]), parts[5][2]
    if COMPILE:
        prefix, rest = torch.compile(prefix) if n_frozen else prefix, torch.compile(rest)
    kept = {}
    if number == 1:
        print(f"begun {time.monotonic() - LAUNCHED:.6f}")
    else:
        print(f"change {number} {time.monotonic() - ended:.6f}")
    last = time.monotonic()
    for epoch in range(epochs):
        for k in range(IMAGES // BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                if k in kept:
                    x, target = kept[k]
                else:
                    x, target = batch(k)
                    with torch.no_grad():
                        x = prefix(x)
                    if KEEP:
                        kept[k] = x, target
                loss = torch.nn.functional.cross_entropy(rest(x).float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            value = loss.item()
            took = time.monotonic() - last
            print(f"step {number} {epoch} {took:.6f} {value:.7g}", flush=True)
            last = time.monotonic()


ended = 0
for number, (n_frozen, epochs) in enumerate(PHASES, 1):
    phase(number, n_frozen, epochs)
    ended = time.monotonic()
with open("/proc/self/status") as f:
    print("peak %.1f" % next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM")))
