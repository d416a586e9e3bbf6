#!/usr/bin/env python3
"""The two examples on pictures, thaw beside PyTorch: the same weights, splits, phases and rates, seed by seed in turns.

    compare_examples.py [--seeds 1,2,3,4,5] [--example fashion|stamps] [--kind phases|scratch] [--store FILE]
    compare_examples.py --pictures
    compare_examples.py --table [--out FILE]

Needs the data that examples/pictures/fetch.sh gets. Each run is a process of its own: `thaw train` on the example's
recipe, or peer_effnet.py on the same file. What a run came to is kept in the store, a line of JSON each, and is not
made again, unless --timed asks for its seconds and they are not there. --pictures measures how
fast photographs become images of a network, beside Pillow, and how long training waits for them; the machine has to be
quiet for it. With --table what is in the store becomes a page.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
FOLDER = os.path.join(ROOT, "examples", "pictures")
PYTHON = "/usr/bin/python3"  # the one that the distribution's PyTorch belongs to
EXAMPLES = {"fashion": "clothes", "stamps": "stamps"}
PHASES = ["head", "upper half", "all"]


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--seeds", default="1,2,3,4,5")
    p.add_argument("--example", choices=EXAMPLES, action="append")
    p.add_argument("--kind", choices=["phases", "scratch"], action="append")
    p.add_argument("--who", choices=["thaw", "PyTorch"], action="append")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--timed", action="store_true", help="the machine is quiet: measure the seconds, too")
    p.add_argument("--store", default=os.path.join(ROOT, "build", "examples.jsonl"))
    p.add_argument("--thaw", default=os.path.join(ROOT, "build", "thaw"))
    p.add_argument("--pictures", action="store_true")
    p.add_argument("--table", action="store_true")
    p.add_argument("--out", default=os.path.join(HERE, "results_examples.md"))
    return p.parse_args()


def run(command, threads):
    """Standard output of a command, its seconds, and the most memory it took in MiB."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive")
    begun = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"compare_examples.py: failed: {' '.join(command)}")
    return out, time.monotonic() - begun, usage.ru_maxrss / 1024


def scratch_recipe(example, folder):
    """The example's recipe without weights and with one phase as long as all of its own."""
    with open(os.path.join(FOLDER, example + ".toml")) as file:
        top, *phases = file.read().split("[[phase]]")
    epochs = sum(int(re.search(r"epochs = (\d+)", p).group(1)) for p in phases)
    top = re.sub(r'path = ".*"', 'arch = "efficientnet_lite0"\nimage_size = 96', top, count=1)
    top = top.replace('"data/', f'"{FOLDER}/data/')
    path = os.path.join(folder, "scratch.toml")
    with open(path, "w") as file:
        file.write(f'{top}[[phase]]\nname = "scratch"\nepochs = {epochs}\n')
    return path


def measure_thaw(o, example, kind, seed):
    with tempfile.TemporaryDirectory() as folder:
        recipe = os.path.join(FOLDER, example + ".toml") if kind == "phases" else scratch_recipe(example, folder)
        made = os.path.join(folder, "run")
        out, seconds, mib = run([o.thaw, "train", recipe, "--set", f"seed={seed}", "--run", made, "--json"], o.threads)
        events = [json.loads(line) for line in out.splitlines()]
        valid = [e["metric"] for e in events if e["event"] == "eval" and e["split"] == "valid"][1:]
        test = []
        for step in sorted(os.listdir(os.path.join(made, "checkpoints"))):
            if step.startswith("step-"):
                path = os.path.join(made, "checkpoints", step)
                measured, _, _ = run([o.thaw, "eval", path, "--split", "test", "--json"], o.threads)
                test.append(json.loads(measured)["accuracy"])
    return {"valid": valid, "test": test, "seconds": seconds, "mib": mib}


def measure_pytorch(o, example, kind, seed):
    command = [PYTHON, "-W", "ignore", os.path.join(HERE, "peer_effnet.py"), os.path.join(FOLDER, example + ".toml"), str(seed)]
    out, _, mib = run(command + (["scratch"] if kind == "scratch" else []), o.threads)
    lines = [json.loads(line) for line in out.splitlines()]
    return {"valid": [r["valid"] for r in lines], "test": [r["test"] for r in lines], "seconds": lines[-1]["seconds"],
            "mib": mib}


MEASURE = {"thaw": measure_thaw, "PyTorch": measure_pytorch}


WAITING = """[model]
arch = "efficientnet_lite0"
[data]
format = "folder"
train = "{photos}"
batch = 16
flip = true
random_resized_crop = [0.35, 1.0]
[[phase]]
name = "head"
epochs = 3
freeze = ["conv_stem", "bn1", "blocks", "conv_head", "bn2"]
[[phase]]
name = "everything"
epochs = 2
unfreeze = ['.*']
"""


def measure_pictures(o):
    """Images a second in turns, the best of three; and the share of its time in which training waits."""
    pillow, rates = os.path.join(HERE, "peer_pillow.py"), {"thaw": {}, "Pillow": {}}
    with tempfile.TemporaryDirectory() as folder:
        photos = os.path.join(folder, "photos")
        run([PYTHON, pillow, "make", photos], 1)
        for _ in range(3):
            for who, program in (("thaw", [os.path.join(ROOT, "build", "bench_pictures")]), ("Pillow", [PYTHON, pillow])):
                out, _, _ = run(program + [photos, "1", "2"], 2)
                for threads, rate in re.findall(r"(\d) threads? *: ([0-9.]+) images/s", out):
                    rates[who][threads] = max(rates[who].get(threads, 0), float(rate))
        recipe = os.path.join(folder, "waiting.toml")
        with open(recipe, "w") as file:
            file.write(WAITING.format(photos=photos))
        out, _, _ = run([o.thaw, "train", recipe, "--run", os.path.join(folder, "run"), "--json"], 2)
        ends = [e for e in map(json.loads, out.splitlines()) if e["event"] == "phase_end"]
    return {"rates": rates, "phases": [{k: e[k] for k in ("phase_name", "rate", "waited")} for e in ends]}


def key(r):
    return r["example"], r["kind"], r["seed"], r["who"]


def stored(path):
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return {key(r) + (r["timed"],): r for r in map(json.loads, file)}


def keep(o, r):
    print(json.dumps(r), flush=True)
    with open(o.store, "a") as file:
        file.write(json.dumps(r) + "\n")


def measure_all(o):
    have = stored(o.store)
    for seed in map(int, o.seeds.split(",")):
        for example in o.example or EXAMPLES:
            for kind in o.kind or ["phases", "scratch"]:
                for who in o.who or MEASURE:
                    wanted = (example, kind, seed, who)
                    if wanted + (True,) in have or (not o.timed and wanted + (False,) in have):
                        continue
                    r = dict(example=example, kind=kind, seed=seed, who=who, timed=o.timed,
                             **MEASURE[who](o, example, kind, seed))
                    keep(o, r)


def spread(values):
    """Mean and range, in percent."""
    values = [100 * v for v in values]
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def table(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    return "\n".join(lines[:1] + ["|" + "|".join("-" * (w + 2) for w in widths) + "|"] + lines[1:]) + "\n"


def accuracies(runs, example):
    rows = [["", "trained with"] + PHASES + ["from scratch"]]
    for split in ("valid", "test"):
        for who in MEASURE:
            mine = [r for r in runs if r["example"] == example and r["who"] == who]
            phased = [r[split] for r in mine if r["kind"] == "phases"]
            rows.append([split, who] + [spread([p[i] for p in phased]) for i in range(len(PHASES))] +
                        [spread([r[split][-1] for r in mine if r["kind"] == "scratch"])])
    return table(rows)


def verdict(runs, example):
    last = {who: [r["test"][-1] for r in runs if (r["example"], r["who"], r["kind"]) == (example, who, "phases")]
            for who in MEASURE}
    if min(map(len, last.values())) < 2:
        return ""
    mean = statistics.mean(last["thaw"])
    inside = min(last["PyTorch"]) <= mean <= max(last["PyTorch"])
    said = (f"thaw's mean on the test pictures after the last phase, {100 * mean:.1f}, is "
            f"{'within' if inside else 'outside'} the range of PyTorch's {len(last['PyTorch'])} seeds.\n")
    gains = []
    for who in MEASURE:
        scratch = [r["test"][-1] for r in runs if (r["example"], r["who"], r["kind"]) == (example, who, "scratch")]
        if scratch:
            gains.append(f"{100 * (statistics.mean(last[who]) - statistics.mean(scratch)):.1f} points with {who}")
    return said + (f"Pretrained and in phases it is better than from scratch by {' and '.join(gains)}.\n" if gains else "")


def times(runs):
    rows = [["example", "work", "thaw, s", "PyTorch, s", "faster", "thaw, MiB", "PyTorch, MiB"]]
    found = {key(r): r for r in runs if r["timed"]}
    for (example, kind, seed, who), ours in sorted(found.items()):
        theirs = found.get((example, kind, seed, "PyTorch"))
        if who != "thaw" or not theirs:
            continue
        rows.append([EXAMPLES[example], "three phases" if kind == "phases" else "from scratch", f"{ours['seconds']:.1f}",
                     f"{theirs['seconds']:.1f}", f"**{theirs['seconds'] / ours['seconds']:.2f}×**", f"{ours['mib']:.0f}",
                     f"{theirs['mib']:.0f}"])
    return table(rows) if len(rows) > 1 else "Nothing was timed.\n"


def pictures(r):
    rows = [["work", "threads", "thaw, images/s", "Pillow, images/s", "ratio"]]
    for threads, rate in sorted(r["rates"]["thaw"].items()):
        peer = r["rates"]["Pillow"][threads]
        rows.append(["a photograph of 500 × 375 read, decoded, resized, cut, normalised", threads, f"{rate:.0f}",
                     f"{peer:.0f}", f"**{rate / peer:.2f}×**"])
    waits = [["EfficientNet-Lite0 at 224 on such photographs, 2 threads", "images/s", "waits for data"]]
    for phase in r["phases"]:
        waits.append([phase["phase_name"] + " trained", f"{phase['rate']:.1f}", f"{100 * phase['waited']:.1f}%"])
    return table(rows) + "\n" + table(waits)


def processor():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def write_page(o):
    measured = [r for r in stored(o.store).values() if r["example"] == "pictures"]
    runs = list({key(r): r for _, r in sorted(stored(o.store).items(), key=lambda item: item[0][-1])}.values())
    phased = sorted({r["seed"] for r in runs if r["kind"] == "phases"})
    alone = ", ".join(f"{n} of {who} with {name}" for example, name in EXAMPLES.items() for who in MEASURE
                      if (n := sum(key(r)[::3] == (example, who) and r["kind"] == "scratch" for r in runs)))
    page = ["# The examples on pictures, beside PyTorch\n",
            "Written by `bench/compare_examples.py`: EfficientNet-Lite0 with ImageNet weights on 96 × 96 pixels, by the recipes in\n"
            "`examples/pictures`, which both read. Accuracies in percent: the mean and the range over seeds "
            f"{', '.join(map(str, phased))};\n"
            "from scratch with as many epochs at the base rate, each from start values of its own kind, fewer seeds:\n"
            f"{alone or 'none'}.\n"]
    for example, name in EXAMPLES.items():
        page += [f"## {name.capitalize()}\n", accuracies(runs, example), verdict(runs, example)]
    page += ["## Time\n", f"The whole of one run on {processor()}, {o.threads} threads,\nnothing else running: reading, training, "
             "the evaluations that the recipe asks for, and with thaw the checkpoints.\n", times(runs)]
    if measured:
        page += ["## Pictures\n", pictures(measured[-1])]
    with open(o.out, "w") as file:
        file.write("\n".join(part for part in page if part))


def main():
    o = options()
    if o.table:
        write_page(o)
    elif o.pictures:
        keep(o, dict(example="pictures", kind="decode", seed=0, who="both", timed=True, **measure_pictures(o)))
    else:
        measure_all(o)


main()
