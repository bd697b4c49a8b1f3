"""The race's tables, as text and Markdown, and its picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import roofline
from race_rows import Row

Result = dict[str, Any]  # of a row: what `describe` says, its times and its problems
Outcome = dict[str, Any]  # of a number of threads


def describe(row: Row, threads: int, peak: dict[str, Any]) -> Result:
    """Return what the reports need to know of a row, in words and numbers."""
    bars = row.bars
    known: Result = {
        "name": str(row),
        "dtype": row.short_dtype,
        "bar": bars.one_thread if threads == 1 else bars.more_threads,
        "goal": bars.goal if threads == 1 else None,
        "flops": row.flops,
        "bytes": sum(roofline.bytes_moved(row)),
    }
    if "missing" not in peak:
        known["limit"] = roofline.limit(row, peak)._asdict()
    return known


def best(result: Result, name: str) -> float | None:
    """Return a contender's best time of a step, in seconds."""
    times: list[float] = result["times"].get(name, [])
    return min(times, default=None)


def best_peer(result: Result) -> str | None:
    """Return the name of the fastest contender beside siglin."""
    peers = [name for name in result["times"] if name != "siglin"]
    return min(peers, key=lambda name: min(result["times"][name]), default=None)


def ratio(result: Result) -> float | None:
    """Return how many of siglin's best times the best peer's takes."""
    peer, own = best_peer(result), best(result, "siglin")
    if peer is None or own is None:
        return None
    return float(min(result["times"][peer]) / own)


def median_ratio(result: Result) -> float | None:
    """Return the same of the medians, against the same peer."""
    peer, own = best_peer(result), result["times"].get("siglin")
    if peer is None or not own:
        return None
    return statistics.median(result["times"][peer]) / statistics.median(own)


def verdict(result: Result) -> str:
    found = ratio(result)
    if found is None:
        return "short" if result["problems"] else "-"
    if result["bar"] is None:
        return "-"
    if found < result["bar"]:
        return "short"
    return "goal" if result["goal"] and found >= result["goal"] else "ok"


def us(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def headings(names: Sequence[str]) -> list[str]:
    last = ["best peer", "ratio", "(median)", "bar", "goal", ""]
    return ["row", "dtype", *names, *last]


def cells(result: Result, names: Sequence[str]) -> list[str]:
    return [
        result["name"],
        result["dtype"],
        *(us(best(result, name)) for name in names),
        best_peer(result) or "-",
        number(ratio(result)),
        f"({number(median_ratio(result))})",
        f"{result['bar']:g}" if result["bar"] else "-",
        f"{result['goal']:g}" if result["goal"] else "-",
        verdict(result),
    ]


def line(texts: Sequence[str]) -> str:
    """Return a line of the terminal's table, which is printed as it comes."""
    name, dtype, *times = texts[:-6]
    peer, *rest, verdict = texts[-6:]
    parts = [name.ljust(68), dtype.ljust(5), *(t.rjust(12) for t in times)]
    parts += ["", peer.ljust(12), *(t.rjust(8) for t in rest), "", verdict]
    return " ".join(parts).rstrip()


def summary(outcome: Outcome) -> str:
    verdicts = [verdict(result) for result in outcome["rows"]]
    reached = verdicts.count("ok") + verdicts.count("goal")
    barred = sum(result["bar"] is not None for result in outcome["rows"])
    text = f"{reached} of {barred} rows with a bar reach it"
    if outcome["threads"] == 1:
        text += f", {verdicts.count('goal')} their goal"
    lost = sum((ratio(result) or 1) < 1 for result in outcome["rows"])
    return f"{text}; {lost} are lost to a peer."


# ---- the roofline ----------------------------------------------------------------------

ROOFLINE = (
    *("row", "dtype", "Mflop", "kB", "limit us", "set by"),
    *("siglin us", "share", "GFLOP/s"),
)


def roofline_cells(result: Result) -> list[str]:
    limit, own = result.get("limit"), best(result, "siglin")
    return [
        result["name"],
        result["dtype"],
        f"{result['flops'] / 1e6:.3g}",
        f"{result['bytes'] / 1e3:.3g}",
        us(limit["us"] / 1e6) if limit else "-",
        limit["cause"] if limit else "-",
        us(own),
        f"{limit['us'] / own / 1e6:.0%}" if limit and own else "-",
        f"{result['flops'] / own / 1e9:.3g}" if own else "-",
    ]


def machine(outcome: Outcome) -> str:
    """Say what the machine was found to do at most."""
    peak = outcome["peak"]
    if "missing" in peak:
        return f"no roofline: {peak['missing']}"
    peaks = ", ".join(f"{v:.0f} GFLOP/s in {k}" for k, v in peak["gflops"].items())
    reads = ", ".join(f"{e['name']} {e['gbytes']:.0f}" for e in peak["levels"])
    return f"multiply-adds: {peaks}; reading, GB/s: {reads}"


def roofline_lines(outcome: Outcome) -> list[str]:
    lines = [machine(outcome), ""]
    for texts in [ROOFLINE, *map(roofline_cells, outcome["rows"])]:
        name, dtype, *rest = texts
        lines.append(
            " ".join([name.ljust(68), dtype.ljust(5), *(t.rjust(15) for t in rest)])
        )
    return lines


# ---- Markdown --------------------------------------------------------------------------


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the whole report as Markdown."""
    lines = [
        "# The latest race",
        "",
        "Written by `python bench/training/race.py --markdown`.",
    ]
    lines += ["How to read it: [README.md](../README.md).", ""]
    for outcome in outcomes:
        threads = outcome["threads"]
        names = outcome["names"]
        lines += ["## One thread" if threads == 1 else f"## {threads} threads", ""]
        lines += [f"- {key}: {value}" for key, value in outcome["conditions"].items()]
        lines += ["", "Best times in microseconds per step.", ""]
        table = [headings(names), *(cells(row, names) for row in outcome["rows"])]
        flush_left = {0, 1, len(names) + 2, len(table[0]) - 1}
        lines += [*aligned(table, flush_left), "", summary(outcome)]
        lines += [*(f"\n{problem}" for problem in outcome["problems"]), ""]
        lines += [f"The roofline: {machine(outcome)}.", ""]
        table = [[*ROOFLINE], *map(roofline_cells, outcome["rows"])]
        lines += [*aligned(table, {0, 1, 5}), ""]
    return "\n".join(lines)


def aligned(table: Sequence[Sequence[str]], flush_left: set[int]) -> list[str]:
    """Return a table of Markdown whose columns are as wide as their widest cell."""
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    dashes = [
        "-" * (width - 1) + ("-" if column in flush_left else ":")
        for column, width in enumerate(widths)
    ]
    padded = [
        [
            text.ljust(width) if column in flush_left else text.rjust(width)
            for column, (text, width) in enumerate(zip(texts, widths, strict=True))
        ]
        for texts in table
    ]
    return [f"| {' | '.join(row)} |" for row in [padded[0], dashes, *padded[1:]]]


# ---- the picture -----------------------------------------------------------------------

# Colours that stay apart for the colour-blind (Okabe and Ito).
STYLES = {
    "siglin": ("o", "#d55e00"),
    "NumPy": ("s", "#0072b2"),
    "torch": ("^", "#009e73"),
    "jax step": ("v", "#cc79a7"),
    "jax loop": ("D", "#56b4e9"),
    "scikit-learn": ("P", "#999999"),
}


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw everybody's time per step: a line for each row, a panel for each outcome."""
    import matplotlib as mpl  # noqa: PLC0415 - only the picture needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    rows = outcomes[0]["rows"]
    figure, axes = plt.subplots(
        1,
        len(outcomes),
        sharey=True,
        squeeze=False,
        figsize=(4.2 + 5 * len(outcomes), 1.6 + 0.42 * len(rows)),
        layout="constrained",
    )
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        for y, result in enumerate(outcome["rows"]):
            found = {n: best(result, n) for n in outcome["names"]}
            there = {n: t * 1e6 for n, t in found.items() if t is not None}
            if not there:
                continue
            axis.plot(
                [min(there.values()), max(there.values())],
                [y, y],
                color="#dddddd",
                zorder=1,
            )
            for name, time in there.items():
                marker, colour = STYLES[name]
                # A ring, so that a peer that is as fast shows within it.
                own = name == "siglin"
                axis.scatter(
                    time,
                    y,
                    s=150 if own else 42,
                    marker=marker,
                    facecolors="none" if own else colour,
                    edgecolors=colour if own else "none",
                    linewidths=3 if own else 0,
                    zorder=4 if own else 3,
                    label=name,
                )
            gain = ratio(result)
            if gain is not None:
                axis.annotate(
                    f"{gain:.3g}x",
                    (min(there.values()), y),
                    (-11, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=9,
                    fontweight="bold" if verdict(result) != "short" else "normal",
                    color="black" if gain >= 1 else STYLES["siglin"][1],
                )
        axis.set_xscale("log")
        axis.margins(x=0.16)
        axis.grid(axis="x", color="#eeeeee")
        axis.set_axisbelow(True)
        threads = outcome["threads"]
        axis.set_title("1 thread" if threads == 1 else f"{threads} threads")
        axis.set_xlabel("time of a step (µs), log scale; left is faster")
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0][0].set_yticks(
        range(len(rows)), [f"{r['name']}, {r['dtype']}" for r in rows]
    )
    axes[0][0].invert_yaxis()
    seen: dict[str, Any] = {}
    for axis in axes[0]:
        handles, labels = axis.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            seen.setdefault(label, handle)
    figure.legend(
        seen.values(),
        seen.keys(),
        loc="outside upper center",
        ncols=len(seen),
        frameon=False,
    )
    conditions = outcomes[0]["conditions"]
    figure.supxlabel(
        "numbers: time of the best peer / time of siglin, bold where the bar is reached.  "
        f"{conditions['cpu']}, {conditions['date']}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)
