"""What the package `efficientnet-lite-pytorch` of PyPI says: the EfficientNet-Lites' logits for a fixed input.

    python3 record_efficientnet.py FOLDER   # where the package was unpacked; writes efficientnet_logits.txt

Made with version 0.1.0 and Debian's python3-torch 1.13. The tests read the file and need no Python. Each line: the
network, its numbers of parameters and of blocks, and the logits. Weights are those of `model.init = "by-name"`, in
float64, from the names that thaw and timm use; here the tensors are found by their order, which is the same.
"""
import contextlib
import io
import sys

import torch

from record_torchvision import by_name, image

STAGES = {"lite0": [1, 2, 2, 3, 3, 4, 1], "lite1": [1, 3, 3, 4, 4, 5, 1], "lite2": [1, 3, 3, 4, 4, 5, 1]}


def names(stages):
    """Parameters in the order in which all libraries make them."""
    units = [("conv_stem", "bn1")]
    for stage, blocks in enumerate(stages):
        parts = [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")] if stage else \
            [("conv_dw", "bn1"), ("conv_pw", "bn2")]
        units += [(f"blocks.{stage}.{i}.{conv}", f"blocks.{stage}.{i}.{norm}") for i in range(blocks)
                  for conv, norm in parts]
    for conv, norm in units + [("conv_head", "bn2")]:
        yield from (conv + ".weight", norm + ".weight", norm + ".bias")
    yield from ("classifier.weight", "classifier.bias")


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from efficientnet_lite_pytorch import EfficientNet

    with open("efficientnet_logits.txt", "w") as out:
        for lite, stages in STAGES.items():
            with contextlib.redirect_stdout(io.StringIO()):
                net = EfficientNet.from_name(f"efficientnet-{lite}", image_size=64,
                                             num_classes=10).double().eval()
            params = list(net.parameters())
            ours = list(names(stages))
            assert len(params) == len(ours)
            for name, p in zip(ours, params):
                p.data = by_name(name, p.shape)
            with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                logits = net(image(2, 64)).flatten().tolist()
            sizes = [sum(p.numel() for p in params), sum(stages)]
            out.write(" ".join([f"efficientnet_{lite}", *map(str, sizes), *map(repr, logits)]) + "\n")
