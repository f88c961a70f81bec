"""What ``make bench`` measured, drawn for the page on speed."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_book.figures import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "draw_growth",
    "draw_profile",
    "draw_race",
    "draw_throughput",
    "draw_tried",
    "measured",
]

FILE = Path(__file__).parent / "results" / "speed.json"
GREY = "#8A8A8A"
PARTS = {
    "matrix products": BLUE, "Adam": GREEN, "images and noise": "#E69F00", "log p(x|z)": ORANGE,
    "the rest": "#C8C8C8",
}  # fmt: skip


def measured(name: str) -> dict:
    """The stored results of a benchmark: "race", "throughput", "likelihood", "growth", "tried".

    Raises: KeyError for one that was never run.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))[name]


def hardware(name: str) -> str:
    """What the benchmark ran on, in a line."""
    of = measured(name)["hardware"]
    instructions = "with" if of["bfloat16 instructions"] else "without"
    where = of["GPU"] or f"{of['CPU']}, {of['cores']} cores, {instructions} bfloat16 instructions"
    return f"{where}; PyTorch {of['torch']}"


def seconds_of_the_race() -> dict[str, list[float]]:
    """Seconds of every run of race (a), by entry, from slowest to fastest.

    The example's are those up to the end of its last epoch.
    """
    race = measured("race")
    found = {name: of["seconds"] for name, of in race["a"].items()}
    found["PyTorch's example"] = [run["seconds"][-1] for run in race["example"]]
    return dict(sorted(found.items(), key=lambda item: -statistics.median(item[1])))


def draw_race() -> Figure:
    """Seconds of training until 105.56 nats, a dot for each run, on a logarithmic axis."""
    import matplotlib.pyplot as plt

    entries = seconds_of_the_race()
    slowest = statistics.median(next(iter(entries.values())))
    figure, ax = plt.subplots(figsize=(6.5, 0.55 * len(entries) + 1.0), layout="constrained")
    for row, (name, seconds) in enumerate(entries.items()):
        middle = statistics.median(seconds)
        colour = GREY if "example" in name else (ORANGE if "record" in name else BLUE)
        ax.barh(-row, middle, left=0, height=0.55, color=colour, alpha=0.3)
        ax.plot(seconds, [-row] * len(seconds), "o", color=colour, markersize=4)
        times = f"{middle:.1f} s" + (f", 1/{slowest / middle:.0f}" if row else "")
        ax.text(max(seconds) * 1.12, -row, times, va="center")
    ax.set_yticks([-row for row in range(len(entries))], list(entries))
    ax.set_xscale("log")
    ax.set_xlim(0.5, slowest * 3.2)
    ax.set_xticks([1, 10, 100], ["1", "10", "100"])
    ax.set_xlabel("seconds of training until the test −ELBO is below 105.56 nats")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    plt.close(figure)
    return figure


def draw_tried() -> Figure:
    """What each idea changed, in nats at the same number of steps: left is better."""
    import matplotlib.pyplot as plt

    rows = sorted(measured("tried"), key=lambda row: (not row["used"], row["nats"]))
    figure, ax = plt.subplots(figsize=(5.4, 0.28 * len(rows) + 1.0), layout="constrained")
    for place, row in enumerate(rows):
        colour = BLUE if row["used"] else GREY
        shown = min(row["nats"], 2.0)
        ax.plot([0, shown], [-place] * 2, color=colour, linewidth=2)
        ax.plot(shown, -place, "o" if shown == row["nats"] else ">", color=colour, markersize=5)
        notes = [f"{row['nats']:+.1f}"] * (shown != row["nats"]) + [row["time"]] * bool(row["time"])
        if notes:
            ax.text(2.2, -place, ", ".join(notes), va="center", fontsize=9, color="#555555")
    ax.axvline(0, color="black", linewidth=0.8)
    used = sum(row["used"] for row in rows)
    ax.axhline(0.5 - used, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_yticks([-place for place in range(len(rows))], [row["what"] for row in rows], fontsize=9)
    ax.set_xlim(-2.3, 3.4)
    ax.set_xticks([-2, -1, 0, 1, 2])
    ax.set_xlabel("change in nats; beside it, of a step's time", fontsize=10)
    ax.tick_params(axis="y", length=0)
    plt.close(figure)
    return figure


def draw_throughput() -> Figure:
    """How many times as fast ``fit`` is as a textbook loop and as pythae's trainer."""
    import matplotlib.pyplot as plt

    rows = measured("throughput")["rows"]
    figure, ax = plt.subplots(figsize=(6.5, 2.9), layout="constrained")
    colours = {"textbook loop": BLUE, "pythae's trainer": ORANGE, "bare products": GREY}
    for offset, (name, colour) in zip((-0.2, 0.0, 0.2), colours.items(), strict=True):
        for place, row in enumerate(rows):
            middle, low, high = _speed(row, name)
            ax.plot([place + offset] * 2, [low, high], color=colour, linewidth=2)
            ax.plot(place + offset, middle, "o", color=colour, label=None if place else name)
            ax.text(place + offset, high + 0.03, f"{middle:.2f}", ha="center", fontsize=8)
    ax.axhline(1, color="black", linewidth=0.8)
    names = [
        f"{r['threads']} thread{'s' * (r['threads'] > 1)},\nbatch {r['batch size']}" for r in rows
    ]
    ax.set_xticks(range(len(rows)), names)
    ax.set_ylim(0.4, None)
    ax.set_ylabel("speed of fit, times")
    figure.legend(loc="outside upper center", ncols=3)
    plt.close(figure)
    return figure


def _speed(row: dict, name: str) -> list[float]:
    """Median, lowest and highest ratio; beside pythae ``fit`` was measured once more."""
    beside = row["beside pythae"]["speed of fit"]
    return (row["speed of fit"] | beside)[name]


def speeds_of_fit(name: str) -> list[float]:
    """How many times as fast as ``name`` it is, in each setting."""
    return [_speed(row, name)[0] for row in measured("throughput")["rows"]]


def draw_profile() -> Figure:
    """Where a step's time goes: three loops, batch 128, two threads."""
    import matplotlib.pyplot as plt

    loops = measured("throughput")["profile"]
    figure, ax = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
    for row, parts in enumerate(loops.values()):
        left = 0.0
        for part, colour in PARTS.items():
            ax.barh(-row, parts[part], left=left, color=colour, label=None if row else part)
            left += parts[part]
    ax.set_yticks([-row for row in range(len(loops))], list(loops))
    ax.set_xlabel("ms a step")
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=3)
    plt.close(figure)
    return figure


def draw_growth() -> Figure:
    """Time and memory against training images, width, latent units and importance samples."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    labels = {
        "training images": "an epoch", "width": "100 steps", "latent units": "100 steps",
        "samples k": "log p(x)",
    }  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(6.5, 5.6), layout="constrained")
    for ax, (what, points) in zip(axes.flat, measured("growth")["points"].items(), strict=True):
        values = [int(value) for value in points]
        seconds = [p["seconds"] for p in points.values()]
        ax.loglog(values, seconds, "o-", color=BLUE, markersize=4)
        ax.set_xlabel(what)
        ax.set_ylabel(f"seconds, {labels[what]}", color=BLUE)
        other = ax.twinx()
        megabytes = [max(p["megabytes"], 1.0) for p in points.values()]
        other.loglog(values, megabytes, "s--", color=ORANGE, markersize=4)
        other.set_ylabel("MB", color=ORANGE)
        other.set_ylim(0.7, 2000)
        for axis in (ax, other):
            axis.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(10 ** math.floor(math.log10(min(seconds))), None)
        other.spines["right"].set_visible(True)
    plt.close(figure)
    return figure


def race_table(targets: Sequence[str]) -> str:
    """Race (b): for each target the median of seconds, the worst of the nats, and the seeds."""
    lines = [f"{'target':>8} {'seconds':>9} {'worst of the nats':>18} {'seeds':>6}"]
    for target in targets:
        of = measured("race")["b"][target]
        middle, worst = statistics.median(of["seconds"]), max(of["nats"])
        lines.append(f"{target:>8} {middle:>9.1f} {worst:>18.2f} {len(of['nats']):>6}")
    return "\n".join(lines)
