#!/usr/bin/env python3
"""The two nets of torch_nets.py on a CUDA device: a training step and scoring, eager and as CUDA graphs.

Usage: torch_cuda.py [--height 132] [--image-height 40] [--seconds 2]

Prints one JSON object, wall-clock milliseconds: {"eager": {"train": .., "score": ..}, "graphs": {..}, "gpu": name,
"torch": version}. Calls follow each other without waiting for the device; each net runs in both memory formats and the
faster one counts.
"""
import argparse
import json
import sys
import time

import torch
from torch import nn

from torch_nets import Appearance, Motion


def milliseconds(work, seconds):
    for _ in range(20):
        work()
    torch.cuda.synchronize()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / calls


def as_graph(work):
    """Captures one call; the first ones, on a stream of their own, let libraries and optimiser allocate."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def steps(make, train_inputs, score_inputs, layout):
    net = make().cuda().to(memory_format=layout)
    train_inputs = [x.cuda().contiguous(memory_format=layout) for x in train_inputs]
    score_inputs = [x.cuda().contiguous(memory_format=layout) for x in score_inputs]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True, capturable=True)

    def train():
        optimiser.zero_grad(set_to_none=True)
        net.loss(*train_inputs).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()

    def score():
        with torch.no_grad():
            net.score(*score_inputs)

    return {"train": train, "score": score}


def measure(make, train_inputs, score_inputs, seconds):
    best = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        for key in ("train", "score"):
            for way, wrap in (("eager", lambda work: work), ("graphs", as_graph)):
                try:
                    work = wrap(steps(make, train_inputs, score_inputs, layout)[key])
                    spent = milliseconds(work, seconds)
                except RuntimeError as error:
                    print(f"{way}, {key}, {layout}: {error}", file=sys.stderr)
                    continue
                best[way, key] = min(spent, best.get((way, key), spent))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=132, help="height of the grey image, 180 wide")
    parser.add_argument("--image-height", type=int, default=40, help="height of the colour image, 64 wide")
    parser.add_argument("--seconds", type=float, default=2.0, help="time per figure")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this PyTorch finds no CUDA device")
    torch.manual_seed(1)
    grid = (args.height // 4, 45)
    maps = [torch.randn(2, 2, *grid), torch.randn(2, 2, *grid)]
    images = torch.rand(4, 3, args.image_height, 64) * 2 - 1
    motion = measure(Motion, maps, [m[:1] for m in maps], args.seconds)
    appearance = measure(lambda: Appearance(args.image_height), [images], [images[:1]], args.seconds)
    result = {"eager": {}, "graphs": {}}
    for way, key in motion.keys() & appearance.keys():
        result[way][key] = motion[way, key] + appearance[way, key]
    print(json.dumps({**result, "gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
