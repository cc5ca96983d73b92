#!/usr/bin/env python3
"""The detector's two nets in PyTorch: time of a training step and of scoring (up to the smoothed error map), one thread.

Usage: torch_nets.py [--height 132] [--image-height 40] [--seconds 3]

Prints one JSON object, CPU times in milliseconds (median): {"motion": {"train": .., "score": ..},
"appearance": {..}, "train": .., "score": .., "torch": version}. Each net runs in both memory
formats and the faster one counts.
"""
import argparse
import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)
NEGATIVE_SLOPE = 0.1


def act(x):
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


def kl(mean, log_var):
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def smooth(cells, size):
    """Box means with reflected borders."""
    return F.avg_pool2d(F.pad(cells, [size // 2] * 4, mode="reflect"), size, stride=1)


class Motion(nn.Module):
    """VAE over the motion grid: two target maps, conditioned on two maps."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(
            [nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.Conv2d(24, 24, 3, padding=1)]
        )
        self.mean = nn.Conv2d(24, 4, 1)
        self.log_var = nn.Conv2d(24, 4, 1)
        self.from_latent = nn.Conv2d(4, 24, 1)
        self.mix = nn.Conv2d(26, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 2, 3, padding=1)

    def encode(self, y, c):
        x = torch.cat([y, c], 1)
        for conv in self.encoder:
            x = act(conv(x))
        return self.mean(x), self.log_var(x).clamp(-8, 3)

    def decode(self, z, c):
        x = F.interpolate(act(self.from_latent(z)), scale_factor=2, mode="nearest")
        x = torch.cat([x[:, :, : c.shape[2], : c.shape[3]], c], 1)
        return self.last(act(self.mix(x)))

    def loss(self, y, c):
        mean, log_var = self.encode(y, c)
        out = self.decode(mean + (log_var / 2).exp() * torch.randn_like(mean), c)
        fit = 2 * torch.log1p((y - out).square() / 3)
        return fit.sum(1).mean() + 0.1 * kl(mean, log_var).sum(1).mean()

    def score(self, y, c):
        """The smoothed error map."""
        mean, log_var = self.encode(y, c)
        divergence = F.interpolate(kl(mean, log_var).sum(1, keepdim=True), scale_factor=2, mode="nearest")
        cells = (y + self.decode(mean, c)).mean(1, keepdim=True)
        return smooth(cells + 0.2 * divergence[:, :, : y.shape[2], : y.shape[3]], 3)


class Appearance(nn.Module):
    """VAE over a small colour image, added to a learnt base image."""

    def __init__(self, height):
        super().__init__()
        self.bottleneck = (32, height // 8, 8)
        features = 32 * (height // 8) * 8
        widths = [3, 12, 24, 32]
        self.encoder = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in zip(widths, widths[1:]))
        self.mean = nn.Linear(features, 16)
        self.log_var = nn.Linear(features, 16)
        self.from_latent = nn.Linear(16, features)
        self.decoder = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in [(32, 24), (24, 12), (12, 3)])
        self.base = nn.Parameter(torch.zeros(3, height, 64))

    def encode(self, x):
        for conv in self.encoder:
            x = act(conv(x))
        x = x.flatten(1)
        return self.mean(x), self.log_var(x).clamp(-10, 3)

    def decode(self, z):
        x = act(self.from_latent(z)).view(-1, *self.bottleneck)
        for i, conv in enumerate(self.decoder):
            x = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
            if i < 2:
                x = act(x)
        return x + self.base

    def loss(self, x):
        mean, log_var = self.encode(x)
        out = self.decode(mean + (log_var / 2).exp() * torch.randn_like(mean))
        fit = 2 * torch.log1p((x - out).square() / 0.12)
        return fit.mean() + 0.03 * kl(mean, log_var).sum(1).mean()

    def score(self, x):
        """The smoothed error map."""
        expected = self.decode(self.encode(x)[0])
        return smooth((x - expected).square().sum(1, keepdim=True), 5)


def median_ms(work, seconds):
    for _ in range(20):
        work()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def measure(make, train_inputs, score_inputs, layout, seconds):
    net = make().to(memory_format=layout)
    train_inputs = [x.contiguous(memory_format=layout) for x in train_inputs]
    score_inputs = [x.contiguous(memory_format=layout) for x in score_inputs]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        net.loss(*train_inputs).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()

    def score():
        with torch.inference_mode():
            net.score(*score_inputs)

    return {"train": median_ms(step, seconds), "score": median_ms(score, seconds)}


def best(make, train_inputs, score_inputs, seconds):
    layouts = [torch.contiguous_format, torch.channels_last]
    runs = [measure(make, train_inputs, score_inputs, layout, seconds) for layout in layouts]
    return {key: min(run[key] for run in runs) for key in ("train", "score")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=132, help="height of the grey image, 180 wide")
    parser.add_argument("--image-height", type=int, default=40, help="height of the colour image, 64 wide")
    parser.add_argument("--seconds", type=float, default=3.0, help="time per figure")
    args = parser.parse_args()
    torch.manual_seed(1)
    grid = (args.height // 4, 45)
    maps = [torch.randn(2, 2, *grid), torch.randn(2, 2, *grid)]
    images = torch.rand(4, 3, args.image_height, 64) * 2 - 1
    motion = best(Motion, maps, [m[:1] for m in maps], args.seconds)
    appearance = best(lambda: Appearance(args.image_height), [images], [images[:1]], args.seconds)
    total = {key: motion[key] + appearance[key] for key in motion}
    print(json.dumps({"motion": motion, "appearance": appearance, **total, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
