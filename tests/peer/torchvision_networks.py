"""Networks of torchvision with random weights, saved by torch.save, loaded and run here.

    python3 torchvision_networks.py NETWORK_FORWARD [ARCH…]

For each network: logits of the same images agree within 1e-4, of the largest where they are larger
than one; and what is saved here loads there with strict=True, bit for bit. Names of the same
network in other libraries are tried, too: they must give the same logits.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy
import torch
import torchvision

ARCHS = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 wide_resnet101_2 "
    "resnext50_32x4d resnext101_32x8d resnext101_64x4d mobilenet_v2"
).split()
SIDE = 64


def network(arch):
    torch.manual_seed(len(arch))
    net = getattr(torchvision.models, arch)(num_classes=7).eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.8, 1.2)
            m.weight.data.uniform_(0.3, 0.9)
            m.bias.data.normal_(0, 0.1)
            m.num_batches_tracked.fill_(11)
    return net


def transformers_names(name):
    n = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
    n = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", n)
    n = re.sub(r"^fc\.", "classifier.1.", n)
    m = re.match(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)$", n)
    if not m:
        return n
    stage, block, kind, k, leaf = m.groups()
    k = int(k)
    where = f"resnet.encoder.stages.{int(stage) - 1}.layers.{block}."
    if kind == "downsample.":
        return where + "shortcut." + ("convolution.", "normalization.")[k] + leaf
    return where + f"layer.{k - 1}." + {"conv": "convolution.", "bn": "normalization."}[kind] + leaf


def timm_names(name):
    plain = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head",
             "features.18.1": "bn2", "classifier.1": "classifier"}
    path, leaf = name.rsplit(".", 1)
    if path in plain:
        return plain[path] + "." + leaf
    block, rest = re.match(r"features\.(\d+)\.conv\.(.*)$", path).groups()
    block, stage = int(block) - 1, 0
    for n in (1, 2, 3, 4, 3, 3, 1):
        if block < n:
            break
        block, stage = block - n, stage + 1
    first = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    others = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl",
              "3": "bn3"}
    return f"blocks.{stage}.{block}.{(others if stage else first)[rest]}.{leaf}"


def read_safetensors(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    types = {"F32": numpy.float32, "I64": numpy.int64, "F16": numpy.float16}
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        begin, end = t["data_offsets"]
        array = numpy.frombuffer(data[8 + n + begin:8 + n + end], types[t["dtype"]])
        out[name] = torch.from_numpy(array.copy().reshape(t["shape"]))
    return out


def logits(program, folder, state, images, arch):
    weights, out = os.path.join(folder, "weights.pth"), os.path.join(folder, "logits")
    torch.save(state, weights)
    images.permute(0, 2, 3, 1).contiguous().numpy().tofile(os.path.join(folder, "images"))
    got = subprocess.run([program, "weights.pth", str(SIDE), "images", "logits", "saved"], check=True,
                         cwd=folder, stdout=subprocess.PIPE, text=True).stdout.strip()
    assert got == arch, f"recognised as {got}, is {arch}"
    return torch.from_numpy(numpy.fromfile(out, numpy.float32).reshape(len(images), -1))


def same_state(saved, state):
    assert saved.keys() == state.keys(), sorted(saved.keys() ^ state.keys())[:5]
    for k, v in state.items():
        assert saved[k].dtype == v.dtype and torch.equal(saved[k], v), k


def check_vit(program, folder):
    """A vision transformer of torchvision, under its own names and timm's; and on larger images."""
    torch.manual_seed(3)
    net = torchvision.models.VisionTransformer(SIDE, 16, 12, 3, 192, 768, num_classes=7).eval()
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        want = net(images)
    state = net.state_dict()
    got = logits(program, folder, state, images, "vit")
    scale = max(1.0, want.abs().max().item())
    worst = (got - want).abs().max().item() / scale
    assert worst <= 1e-4, f"vit: logits differ by {worst:g}"
    saved = read_safetensors(os.path.join(folder, "saved"))
    net.load_state_dict(saved, strict=True)
    same_state(saved, state)
    rules = (("class_token", "cls_token"), ("encoder.pos_embedding", "pos_embed"),
             ("conv_proj", "patch_embed.proj"), (r"encoder\.layers\.encoder_layer_(\d+)", r"blocks.\1"),
             ("ln_", "norm"), (r"self_attention\.in_proj_", "attn.qkv."),
             (r"self_attention\.out_proj", "attn.proj"), (r"mlp\.0", "mlp.fc1"),
             (r"mlp\.3", "mlp.fc2"), (r"encoder\.ln", "norm"), (r"heads\.head", "head"))
    old = {re.sub(r"mlp\.3", "mlp.linear_2", re.sub(r"mlp\.0", "mlp.linear_1", k)): v
           for k, v in state.items()}
    renamed = {}
    for k, v in state.items():
        for theirs, timm in rules:
            k = re.sub(theirs, timm, k)
        renamed[k] = v
    for other in (old, renamed, {k: v.half() for k, v in renamed.items()}):
        again = logits(program, folder, other, images, "vit")
        half = other["head.weight"].dtype == torch.float16 if "head.weight" in other else False
        assert half or torch.equal(again, got), "vit: other names give other logits"
        same_state(read_safetensors(os.path.join(folder, "saved")), other)
    print(f"vit: logits within {worst:.2g} of {scale:.2g}", flush=True)


def check(program, folder, arch):
    net = network(arch)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        want = net(images)
    state = net.state_dict()
    scale = max(1.0, want.abs().max().item())
    got = logits(program, folder, state, images, arch)
    worst = (got - want).abs().max().item() / scale
    assert worst <= 1e-4, f"{arch}: logits differ by {worst:g}"
    saved = read_safetensors(os.path.join(folder, "saved"))
    getattr(torchvision.models, arch)(num_classes=7).load_state_dict(saved, strict=True)
    same_state(saved, state)
    rename = timm_names if arch == "mobilenet_v2" else transformers_names
    if arch == "mobilenet_v2" or arch.startswith("resnet"):
        renamed = {rename(k): v for k, v in state.items()}
        again = logits(program, folder, renamed, images, arch)
        assert torch.equal(again, got), f"{arch}: other names give other logits"
        same_state(read_safetensors(os.path.join(folder, "saved")), renamed)
        half = {k: v.half() if v.dtype == torch.float32 else v for k, v in renamed.items()}
        logits(program, folder, half, images, arch)
        same_state(read_safetensors(os.path.join(folder, "saved")), half)
    print(f"{arch}: logits within {worst:.2g} of {scale:.2g}", flush=True)


torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as place:
    for a in sys.argv[2:] or ARCHS:
        check(os.path.abspath(sys.argv[1]), place, a)
    check_vit(os.path.abspath(sys.argv[1]), place)
