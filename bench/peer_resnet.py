#!/usr/bin/env python3
"""Images a second of PyTorch on the network of bench_resnet, at its best setting for processors.

    peer_resnet.py [ARCH [BATCH [SIDE [THREADS [ROUNDS [TRAINED]]]]]]      default: resnet50 32 224 2 5 all

TRAINED: all, last (the last stage and the head) or head. What is frozen is in evaluation mode and runs
without gradients. Channels last, gradients set to None, SGD with momentum (foreach where there is one).
"""
import os
import resource
import sys
import time

ARGS = sys.argv[1:] + [None] * 6
ARCH = ARGS[0] or "resnet50"
BATCH, SIDE, THREADS, ROUNDS = (
    int(a or d) for a, d in zip(ARGS[1:5], (32, 224, 2, 5)))
TRAINED = ARGS[5] or "all"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)

import torch  # noqa: E402
import torchvision  # noqa: E402

torch.set_num_threads(THREADS)
torch.manual_seed(1)
VITS = {"vit_tiny_patch16_224": (192, 3), "vit_small_patch16_224": (384, 6)}
if ARCH in VITS:
    width, heads = VITS[ARCH]
    model = torchvision.models.VisionTransformer(
        image_size=SIDE, patch_size=16, num_layers=12, num_heads=heads, hidden_dim=width,
        mlp_dim=4 * width)
else:
    model = getattr(torchvision.models, ARCH)(weights=None)
model = model.to(memory_format=torch.channels_last).train()
stages = [torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool), model.layer1,
          model.layer2, model.layer3, model.layer4]
n_frozen = {"all": 0, "last": 4, "head": 5}[TRAINED]
for stage in stages[:n_frozen]:
    stage.eval().requires_grad_(False)


def forward(x):
    with torch.no_grad():
        for stage in stages[:n_frozen]:
            x = stage(x)
    for stage in stages[n_frozen:]:
        x = stage(x)
    return model.fc(torch.flatten(model.avgpool(x), 1))


optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
image = torch.rand(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
target = torch.randint(0, 1000, (BATCH,))
print(f"{ARCH}, batch {BATCH}, {SIDE} x {SIDE}, {THREADS} threads, PyTorch {torch.__version__}, "
      f"trained: {TRAINED}")

seconds = []
for i in range(ROUNDS + 1):
    start, start_cpu = time.monotonic(), time.process_time()
    optimizer.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(forward(image), target)
    loss.backward()
    optimizer.step()
    took, cpu = time.monotonic() - start, time.process_time() - start_cpu
    print(f"round {i}: {took:.3f} s, {BATCH / took:.2f} images/s, {cpu:.3f} processor s, "
          f"loss {loss.item():.6f}{' (warm-up)' if i == 0 else ''}", flush=True)
    if i:
        seconds.append(took)
if seconds:
    print(f"mean {BATCH * len(seconds) / sum(seconds):.2f}, "
          f"best {BATCH / min(seconds):.2f} images/s")
print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
