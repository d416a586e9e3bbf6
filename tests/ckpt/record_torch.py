"""Files of torch.save for the reader of them, and what they hold as text.

    python3 record_torch.py [FOLDER]     # writes FOLDER/*.pth and FOLDER/tensors.txt (here: torch/)

Made with Debian's python3-torch 1.13. The tests read what lies in torch/ and need no Python; where
torch is present they read what it writes then, too.
"""
import argparse
import collections
import os
import sys

import torch

folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "torch")
TYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
}


def numbers(*shape):
    n = 1
    for s in shape:
        n *= s
    return (torch.arange(n, dtype=torch.float64) * 0.37 - 1.5).reshape(shape)


def every_type():
    state = collections.OrderedDict()
    for t, name in TYPES.items():
        state["t." + name] = numbers(2, 3).abs().to(t)
    state["scalar"] = torch.tensor(7)
    state["empty"] = torch.zeros(0, 4)
    return state


def views():
    """Many tensors over one storage, dense and not."""
    whole = numbers(4, 6).float()
    state = collections.OrderedDict(whole=whole, rows=whole[1:3], columns=whole[:, 2:5])
    state["transposed"] = whole.t()
    state["every_other"] = whole[::2, ::3]
    state["channels_last"] = numbers(2, 3, 2, 2).float().contiguous(memory_format=torch.channels_last)
    state["tied"] = whole
    state["parameter"] = torch.nn.Parameter(numbers(3).float())
    return state


def network():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    for i, t in enumerate(net.state_dict().values()):
        t.copy_(numbers(*t.shape) + i)
    return net


def training():
    """What a training program saves: averages, wrapped names, an optimizer, arguments."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net(torch.ones(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    wrapped = collections.OrderedDict(("module." + k, v) for k, v in net.state_dict().items())
    average = collections.OrderedDict((k, v + 1) for k, v in wrapped.items())
    return {
        "epoch": 3, "arch": "net", "state_dict": wrapped, "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, name="x"), "state_dict_ema": average, "big": 1 << 40,
        "metric": 71.5, "none": None, "list": [1, -2, (True, False)], "size": torch.Size([2, 3]),
        "dtype": torch.float32, "device": torch.device("cpu"),
    }


def listed(state):
    if "state_dict_ema" in state:
        state = {k[len("module."):]: v for k, v in state["state_dict_ema"].items()}
    return state


cases = {
    "types": (every_type(), {}),
    "views": (views(), {}),
    "network": (network().state_dict(), {}),
    "training": (training(), {}),
    "plain_dict": ({"model": dict(network().state_dict())}, {}),
    "protocol4": (network().state_dict(), {"pickle_protocol": 4}),
    "protocol5": (network().state_dict(), {"pickle_protocol": 5}),
    "old_types": (every_type(), {"_use_new_zipfile_serialization": False}),
    "old_views": (views(), {"_use_new_zipfile_serialization": False}),
    "old_training": (training(), {"_use_new_zipfile_serialization": False}),
}
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "tensors.txt"), "w") as out:
    for name, (state, options) in cases.items():
        torch.save(state, os.path.join(folder, name + ".pth"), **options)
        state = listed(state.get("model", state))
        state = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        out.write(f"{name} {len(state)}\n")
        for key, t in state.items():
            words = [key, TYPES[t.dtype], str(t.dim()), *map(str, t.shape)]
            words += map(repr, t.detach().double().flatten().tolist())
            out.write(" ".join(words) + "\n")
