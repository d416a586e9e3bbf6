#!/usr/bin/env python3
"""Accuracy in f32 and in bf16: the demo's three phases, and a ResNet-18 on Fashion-MNIST from random weights.

    compare_precision.py [--seeds 1,2,3] [--work demo|resnet18] [--threads N]

Each run is a process of its own, in turns. A seed of the demo is a draw of its labels. Where the processor
does not multiply bf16 the kernels do it in f32 and round: the same numbers, more slowly.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DATA = "/usr/share/datasets/fashion-mnist"
RESNET18 = f"""
[model]
arch = "resnet18"
[data]
format = "idx"
train = "{DATA}/train-images-idx3-ubyte.gz"
test = "{DATA}/t10k-images-idx3-ubyte.gz"
first = 16000
mean = 0.2860
std = 0.3530
batch = 32
[optimizer]
name = "sgd"
lr = 0.01
momentum = 0.9
[schedule]
name = "cosine"
[[phase]]
epochs = 1
"""
QUIET = ["train.eval_every=0", "train.eval_at_start=false", "checkpoint.every=off"]


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--work", choices=["demo", "resnet18"], action="append")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--thaw", default=os.path.join(ROOT, "build", "thaw"))
    return p.parse_args()


def accuracy(o, folder, recipe, sets):
    """Per cent of the test images."""
    made = os.path.join(folder, "run")
    command = [o.thaw, "train", recipe, "--json", "--threads", str(o.threads), "--run", made]
    command += [word for s in QUIET + sets for word in ("--set", s)]
    env = dict(os.environ, OMP_NUM_THREADS=str(o.threads), OMP_WAIT_POLICY="passive")
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"compare_precision.py: failed: {' '.join(command)}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return 100 * next(e["metric"] for e in events if e["event"] == "eval" and e["split"] == "test")


def main():
    o = options()
    seeds = [int(s) for s in o.seeds.split(",")]
    for work in o.work or ["demo", "resnet18"]:
        made = {"f32": [], "bf16": []}
        for seed in seeds:
            for precision, values in made.items():
                with tempfile.TemporaryDirectory() as folder:
                    recipe = os.path.join(ROOT, "examples", "fashion", "phases.toml")
                    sets = [f"train.precision={precision}"]
                    if work == "demo":
                        sets.append(f"data.subset_seed={seed}")
                    else:
                        recipe = os.path.join(folder, "resnet18.toml")
                        with open(recipe, "w") as file:
                            file.write(RESNET18)
                        sets.append(f"seed={seed}")
                    values.append(accuracy(o, folder, recipe, sets))
                print(f"{work} {seed} {precision}: {values[-1]:.2f}", flush=True)
        for precision, values in made.items():
            print(f"{work} {precision}: mean {statistics.mean(values):.2f}, from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
