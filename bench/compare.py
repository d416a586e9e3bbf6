#!/usr/bin/env python3
"""thaw beside PyTorch: the same networks, images and phases, in turns, on the same processors.

    compare.py [--quick] [--torch-new PYTHON] [--arch A] [--batch N] [--side N] [--threads N]
               [--recipe-images N] [--repeats N] [--budget SECONDS] [--pairs-only] [--wait-policy P]
               [--out FILE]

Each measurement is a process of its own: build/bench_phases or bench/peer_phases.py, which print the
same lines. Every pair is run once, in turns; then once more each, and so on, while the budget lasts.
The whole gradual recipe is run once, its processes in slices of some seconds, each waiting for the others.
The losses of each pair are compared: who computes something else has not won. Writes a page of tables.
"""
import argparse
import ctypes
import functools
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.path.join(ROOT, "build")
PYTHON = "/usr/bin/python3"  # the one that the distribution's PyTorch belongs to
LOSS_MOST = {"f32": 1e-3, "bf16": 3e-2}  # relative difference of the first losses
SLICE_SECONDS, SLICED_BYTES = 10, 6 << 30
BEGUN = time.monotonic()


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--quick", action="store_true", help="under ten minutes")
    p.add_argument("--torch-new", metavar="PYTHON", help="a Python with another PyTorch to compare")
    p.add_argument("--arch", default="resnet50", choices=["resnet18", "resnet50", "resnet101"])
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--side", type=int, default=224)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--recipe-images", type=int, default=0, help="of the gradual recipe; 512, --quick: a batch")
    p.add_argument("--repeats", type=int, default=0)
    p.add_argument("--budget", type=float, default=0, help="seconds")
    p.add_argument("--pairs-only", action="store_true", help="nothing of batch, depth, threads and layers")
    p.add_argument("--wait-policy", choices=["passive", "active"], default="passive",
                   help="of OpenMP's threads, for all; threads that spin do harm where anything else runs")
    p.add_argument("--out", default=os.path.join(HERE, "results.md"))
    o = p.parse_args()
    o.repeats = o.repeats or (3 if o.quick else 5)
    o.budget = o.budget or (540 if o.quick else 4 * 3600)
    return o


class Variant:
    """One program in one precision."""

    def __init__(self, name, precision="f32", python=None, **env):
        self.name, self.precision, self.python, self.env = name, precision, python, env

    def command(self, o, folder, images, phases, batch, threads):
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        program = ([self.python, os.path.join(HERE, "peer_phases.py")] if self.python
                   else [os.path.join(BUILD, "bench_phases")])
        sets = [] if self.python or self.precision == "f32" else ["train.precision=" + self.precision]
        return ["taskset", "-c", cpus] + program + [
            folder, str(batch), str(o.side), str(threads), str(images)] + phases + sets


class Run:
    """A process and what it printed: seconds and loss of each step by (phase, epoch, number in the epoch)."""

    def __init__(self, o, variant, folder, images, phases, batch=None, threads=None):
        self.name, self.batch, self.wall = variant.name, batch or o.batch, 0
        threads = threads or o.threads
        env = dict(os.environ, **variant.env, OMP_NUM_THREADS=str(threads),
                   OPENBLAS_NUM_THREADS=str(threads), OMP_WAIT_POLICY=o.wait_policy)
        env["BENCH_LAUNCHED"] = repr(time.monotonic())
        self.printed = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(variant.command(o, folder, images, phases, self.batch, threads), env=env,
                                        stdout=self.printed)

    def go_on(self, most=None):
        """Runs on, for so many seconds or to the end; whether that was it."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(most)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGSTOP)
        self.wall += time.monotonic() - begun
        if self.process.returncode is None:
            return False
        if self.process.returncode != 0:
            sys.exit(f"compare.py: {self.name} failed ({self.process.returncode}); its message is above")
        self.read()
        return True

    def read(self):
        self.steps, self.losses, self.changes = {}, {}, []
        self.printed.seek(0)
        for line in self.printed:
            kind, *values = line.split()
            if kind == "step":
                k = (int(values[0]), int(values[1]))
                self.steps.setdefault(k, []).append(float(values[2]))
                self.losses.setdefault(k, []).append(float(values[3]))
            elif kind == "change":
                self.changes.append(float(values[1]))
            elif kind in ("begun", "peak"):
                setattr(self, kind, float(values[0]))

    def rate(self, later):
        """Images a second of the first pass over the data, or of later ones. The process's very first
        step, which finds its memory, does not count."""
        first, rest = self.steps[1, 0][1:] or self.steps[1, 0], []
        for k, seconds in self.steps.items():
            rest += seconds if k[1] > 0 else []
        return self.batch / statistics.median(rest if later and rest else first)


def run_to_end(start):
    run = start()
    run.go_on()
    return run


def run_in_slices(starts):
    """Processes that take minutes, each for some seconds and then the next, so that a processor whose pace
    changes from one minute to the next is the same for all; as many at once as there is memory for."""
    with open("/proc/meminfo") as f:
        free = next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable"))
    at_once = max(1, free // SLICED_BYTES)
    for k in range(0, len(starts), at_once):
        going = []
        try:
            for start in starts[k:k + at_once]:
                going.append(start())
                going[-1].go_on(0)
            while going:
                ended = [run for run in going if run.go_on(SLICE_SECONDS)]
                going = [run for run in going if run not in ended]
                yield from ended
        finally:  # who waits would wait for ever
            for run in going:
                run.process.kill()


class Work:
    """A row or two of the table: what thaw does, and what the peers do for the same."""

    def __init__(self, key, images, thaw, peer, keep=None, sliced=False):
        self.key, self.images, self.sliced, self.runs = key, images, sliced, {}
        self.phases = {"thaw": thaw, "peer": peer, "keep": keep}

    def starts(self, o, folder, variants):
        for v in variants:
            kind = "keep" if v.env.get("PEER_KEEP") else "peer" if v.python else "thaw"
            if self.phases[kind]:
                yield functools.partial(Run, o, v, folder, self.images, self.phases[kind])

    def run(self, o, folder, variants):
        starts = list(self.starts(o, folder, variants))
        say(f"{self.key}: {len(starts)} programs" + " in slices" * self.sliced)
        for r in run_in_slices(starts) if self.sliced else map(run_to_end, starts):
            self.runs.setdefault(r.name, []).append(r)
            say(f"    {r.name}: {r.wall:.1f} s, first step after {r.begun:.2f} s, {r.rate(False):.1f} then "
                f"{r.rate(True):.1f} images/s, {r.peak:.0f} MiB, loss {r.losses[1, 0][0]:.6g}")


def say(text):
    print(f"{time.monotonic() - BEGUN:7.1f}  {text}", flush=True)


def cpu_flags():
    with open("/proc/cpuinfo") as f:
        return next((set(line.split()) for line in f if line.startswith("flags")), set())


def openblas_environment(flags):
    """OpenBLAS names the processor by its number; where it takes one with wide vectors for an old one,
    it is told."""
    try:
        blas = ctypes.CDLL("libopenblas.so.0")
        blas.openblas_get_corename.restype = ctypes.c_char_p
        core = blas.openblas_get_corename().decode()
    except OSError:
        return {}, "no OpenBLAS"
    wide = {"skylakex", "cooperlake", "sapphirerapids", "zen"}
    best = ("SKYLAKEX" if {"avx512f", "avx512bw", "avx512vl"} <= flags and core.lower() not in wide
            else "HASWELL" if core.lower() in {"prescott", "core2", "nehalem", "penryn"} and "avx2" in flags
            else None)
    return ({"OPENBLAS_CORETYPE": best} if best else {}), f"OpenBLAS {core}" + (f", told {best}" if best else "")


def make_variants(o, flags, blas):
    """thaw and its peers; bf16 where the processor computes in it and thaw does."""
    has_bf16 = bool(flags & {"avx512_bf16", "amx_bf16"})
    keys = subprocess.run([os.path.join(BUILD, "thaw"), "help", "recipe"], stdout=subprocess.PIPE,
                          text=True, check=True).stdout
    all_of_them = [Variant("thaw")]
    if has_bf16 and any("precision" in line and "bf16" in line for line in keys.splitlines()):
        all_of_them.append(Variant("thaw bf16", "bf16"))
    for python in [PYTHON] + [o.torch_new] * bool(o.torch_new):
        version = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], text=True,
                                 stdout=subprocess.PIPE, check=True).stdout.strip()
        name = "PyTorch " + version
        for precision in ["f32"] + ["bf16"] * has_bf16:
            env = dict(blas, PEER_BF16="1") if precision == "bf16" else dict(blas)
            label = name + (" bf16" if precision == "bf16" else "")
            all_of_them.append(Variant(label, precision, python, **env))
            if python == o.torch_new:
                all_of_them.append(Variant(label + " compiled", precision, python, PEER_COMPILE="1", **env))
            else:
                all_of_them.append(Variant(label + ", kept by hand", precision, python, PEER_KEEP="1", **env))
    return all_of_them


def make_works(o):
    few = 3 if o.quick else 8
    n, recipe = few * o.batch, o.recipe_images or (o.batch if o.quick else 512)
    return [
        Work("head", n, ["5:20"], ["5:1"], ["5:20"]),
        Work("last stage and head", n, ["4:2" if o.quick else "4:3"], ["4:1"], ["4:2" if o.quick else "4:3"]),
        Work("everything", 3 * o.batch if o.quick else n, ["0:1"], ["0:1"]),
        Work("gradual", recipe, ["5:5", "4:5", "0:5"], ["5:5", "4:5", "0:5"],
             None if o.quick else ["5:5", "4:5", "0:5"], sliced=True),
    ]


def repeat_all(o, folder, works, variants, extra):
    took = {}
    for repeat in range(o.repeats):
        for w in works:
            used = time.monotonic() - BEGUN
            if repeat > 0 and (w.sliced or used + took[w.key] > o.budget):
                continue
            w.run(o, folder, variants)
            took[w.key] = time.monotonic() - BEGUN - used
        if repeat == 0 and not o.pairs_only:
            extra()


def middle(values):
    return statistics.median(values)


def spread(values):
    """Half the way from the least to the most, in percent of the median."""
    return 50 * (max(values) - min(values)) / middle(values)


def number(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def cell(values):
    return number(middle(values)) + (f" ±{spread(values):.0f}%" if len(values) > 1 else "")


def loss_gap(a, b):
    """Greatest relative difference of the first losses: of the first step, and of all that both made."""
    pairs = [(x, y) for k in sorted(a.losses) if k in b.losses for x, y in zip(a.losses[k], b.losses[k])]
    gaps = [abs(x - y) / max(abs(x), abs(y), 1e-9) for x, y in pairs]
    return gaps[0], max(gaps)


def table(head, rows):
    widths = [max(len(str(r[i])) for r in [head] + rows) for i in range(len(head))]
    line = lambda r: "| " + " | ".join(str(c).ljust(w) for c, w in zip(r, widths)) + " |"  # noqa: E731
    return [line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|"] + [line(r) for r in rows] + [""]


def measures(works):
    """(title, unit, work, value of a run, greater is better)."""
    head, last, everything, gradual = works
    return [
        ("head, first pass", "images/s", head, lambda r: r.rate(False), True),
        ("head, later epochs", "images/s", head, lambda r: r.rate(True), True),
        ("last stage and head, first pass", "images/s", last, lambda r: r.rate(False), True),
        ("last stage and head, later epochs", "images/s", last, lambda r: r.rate(True), True),
        ("everything", "images/s", everything, lambda r: r.rate(False), True),
        ("gradual: head 5, last 5, all 5 epochs", "s", gradual, lambda r: r.wall, False),
        ("from command to first step", "s", head, lambda r: r.begun, False),
    ]


def pair_table(works, ours, theirs):
    rows, bad = [], []
    for title, unit, work, value, more in measures(works):
        a, b = work.runs.get(ours.name), work.runs.get(theirs.name)
        if not a or not b:
            continue
        x, y = [value(r) for r in a], [value(r) for r in b]
        ratio = middle([u / v if more else v / u for u, v in zip(x, y)])
        p, q = middle([r.peak for r in a]), middle([r.peak for r in b])
        first, most = loss_gap(a[0], b[0])
        memory = [f"{p:.0f}", f"{q:.0f}", f"{p / q:.2f}"] if unit != "s" or work.key == "gradual" else [""] * 3
        rows.append([title, unit, cell(x), cell(y), f"**{number(ratio)}×**"] + memory
                    + [f"{first:.0e}, {most:.0e}"])
        if not first <= LOSS_MOST[ours.precision]:
            bad.append(f"{title}: the first losses of {ours.name} and {theirs.name} differ by {first:.1e}")
    return table(["work", "unit", ours.name, theirs.name, "faster", "MiB", "peer's MiB", "ratio",
                  "losses differ: first, most"], rows), bad


def scaling(o, folder, result):
    """Cost against batch, depth and threads, and how long plans take to compile."""
    thaw, peer = Variant("thaw"), Variant("PyTorch", python=PYTHON)
    small = max(1, o.batch // 4)

    def step(variant, n_frozen, batch, threads=None, steps=4):
        r = run_to_end(lambda: Run(o, variant, folder, steps * batch, [f"{n_frozen}:1"], batch, threads))
        return batch / r.rate(False), r.peak

    rows = []
    for batch in sorted({max(1, o.batch // 8), small, max(1, o.batch // 2), o.batch}):
        say(f"everything trained, batch {batch}")
        s, peak = step(thaw, 0, batch, steps=2 if o.quick else 4)
        rows.append([batch, number(1e3 * s), number(1e3 * s / batch), f"{peak:.0f}"])
    result += ["## Cost against batch (thaw, everything trained)", ""]
    result += table(["batch", "ms a step", "ms an image", "MiB"], rows)

    rows = []
    for n_frozen, what in enumerate(["everything", "layer1 and on", "layer2 and on", "layer3 and on",
                                     "layer4 and head", "head"]):
        say(f"trained: {what}, batch {small}")
        s, peak = step(thaw, n_frozen, small)
        rows.insert(0, [what, number(1e3 * s), f"{peak:.0f}"])
    result += [f"## Cost against trained depth (thaw, batch {small}, nothing read from the cache)", ""]
    result += table(["trained", "ms a step", "MiB"], rows)

    rows = []
    for threads in sorted({1, o.threads}):
        say(f"{threads} threads, batch {small}")
        ours, theirs = step(thaw, 0, small, threads)[0], step(peer, 0, small, threads)[0]
        rows.append([threads, number(small / ours), number(small / theirs), number(theirs / ours) + "×"])
    result += [f"## Threads (everything trained, batch {small})", ""]
    result += table(["threads", "thaw images/s", "PyTorch images/s", "faster"], rows)

    say("plan of ResNet-101")
    times = []
    for _ in range(3):
        out = subprocess.run([os.path.join(BUILD, "bench_resnet"), "resnet101", "1", "64", str(o.threads),
                              "0"], stdout=subprocess.PIPE, text=True, check=True).stdout
        times += [float(w) for w, before in zip(out.split()[1:], out.split()) if before == "compile"]
    result += [f"The plan compiler takes {cell(times)} ms for ResNet-101 (everything trained).", ""]


def layers(o, result):
    """What the fastest kernels by themselves allow, oneDNN's or our own, layer by layer, beside what a step takes."""
    env = dict(os.environ, OMP_NUM_THREADS=str(o.threads), OMP_WAIT_POLICY=o.wait_policy)
    for trained, what in [("all", "everything trained"), ("head", "head trained, first pass"),
                          ("last", "last stage and head trained, first pass"),
                          ("kept", "last stage and head trained, later epochs")]:
        say(f"layers by themselves, {what}, batch {o.batch}")
        out = subprocess.run([os.path.join(BUILD, "bench_layers"), o.arch, str(o.batch), str(o.side),
                              str(o.threads), "3" if o.quick else "5", trained],
                             stdout=subprocess.PIPE, text=True, check=True, env=env).stdout
        result += [f"## The kernels' own limit ({what}, f32, batch {o.batch})", "",
                   "Each layer's kernels by themselves, channels last, in milliseconds, in turns with whole "
                   "steps; ours: what the layer takes inside a step, with what is done in the same pass.", "",
                   *out.rstrip().splitlines(), ""]


def examples():
    """The time of the two examples on pictures, which compare_examples.py measures."""
    try:
        with open(os.path.join(os.path.dirname(__file__), "results_examples.md")) as f:
            section = f.read().split("\n## Time\n")[1].split("\n## ")[0]
    except (OSError, IndexError):
        return []
    return ["## The examples on pictures", "", "From results_examples.md, where their accuracy is, too.", "",
            *[line for line in section.splitlines() if line.startswith("|")], ""]


def machine(o, blas):
    with open("/proc/cpuinfo") as f:
        cpu = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) / 1048576
    version = subprocess.run([os.path.join(BUILD, "thaw"), "version"], stdout=subprocess.PIPE,
                             text=True).stdout.strip().replace("\n", "; ")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return [f"- {cpu}, {os.cpu_count()} processors, {memory:.0f} GiB; {platform.release()}",
            f"- {version}" + (f" ({commit})" if commit else ""), f"- the peer's matrix products: {blas}",
            f"- load at the start: {os.getloadavg()[0]:.1f}; {o.threads} threads, pinned, waiting {o.wait_policy}"]


def asked():
    """The command, but for places of this machine."""
    words = ["./dev", "bench"]
    for before, word in zip([""] + sys.argv[1:], sys.argv[1:]):
        if before not in ("--torch-new", "--out") and word != "--out":
            words.append(word)
    return " ".join(words)


def main():
    o = options()
    flags = cpu_flags()
    blas, blas_name = openblas_environment(flags)
    variants = make_variants(o, flags, blas)
    works, extra = make_works(o), []
    about = machine(o, blas_name)
    print("\n".join(about), flush=True)
    folder = os.path.join(BUILD, "bench-" + o.arch)
    shutil.rmtree(folder, ignore_errors=True)
    say(f"a network of {o.arch} for all")
    subprocess.run([os.path.join(BUILD, "bench_phases"), "make", o.arch, folder], check=True,
                   stdout=subprocess.DEVNULL)
    repeat_all(o, os.path.join(folder, "best"), works, variants,
               lambda: (scaling(o, os.path.join(folder, "best"), extra), layers(o, extra)))

    counts = ", ".join(f"{w.key} {len(w.runs['thaw'])}" for w in works)
    page = [f"# thaw beside PyTorch: {o.arch}, {o.side} × {o.side}, batch {o.batch}", "",
            f"Written by `{asked()}`, at most {o.repeats} rounds in {o.budget:.0f} s.", ""] + about + [
        f"- medians and half the spread of processes run in turns ({counts}; gradual: in slices of {SLICE_SECONDS} s); "
        "peak memory is VmHWM",
        "- faster: median of the ratios of the pairs, each run one right after the other",
        f"- images of the first pass: {works[0].images}; of the gradual recipe: {works[3].images}",
        "- PyTorch: channels last, gradients set to None, what is frozen in evaluation mode and without "
        "gradients", "- losses: relative difference of the first step's, and the greatest of all steps that "
        "both made", ""]
    bad = []
    for ours in variants:
        for theirs in variants:
            if ours.python or not theirs.python or ours.precision != theirs.precision:
                continue
            rows, wrong = pair_table(works, ours, theirs)
            page += [f"## {ours.name} and {theirs.name}", ""] + rows
            bad += wrong
    changes = [1e3 * c for r in works[3].runs["thaw"] for c in r.changes]
    page += extra + ([] if o.pairs_only else examples()) + [f"A phase change of the gradual recipe takes {', '.join(map(number, changes))} ms: from "
                     "the end of one phase to the first step of the next."]
    text = "\n".join(page).rstrip() + "\n"
    with open(o.out, "w") as f:
        f.write(text)
    print("\n" + text)
    say(f"written: {os.path.relpath(o.out)}")
    if bad:
        sys.exit("compare.py: not the same computation:\n" + "\n".join(bad))


if __name__ == "__main__":
    main()
