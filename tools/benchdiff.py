#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares two result files of bench/run: what of ours moved out of the spread.

Ratios to rivals are compared, not times, so that files of different days can be; a figure counts as
moved only if the two ranges of ratios do not touch.

Usage:  tools/benchdiff.py <before.json> <after.json>
"""

import json
import pathlib
import sys


def ratios(path):
    """(figure, workers, rival): the ratio's median, least and greatest."""
    rows = json.loads(pathlib.Path(path).read_text())["rows"]
    return {(row["figure"], row["workers"], rival): ratio
            for row in rows for rival, ratio in row["ratios"].items()}


def moved(before, after):
    """What is in both and has no ratio in common, worst first: (key, before, after)."""
    out = [(key, before[key], after[key]) for key in before.keys() & after.keys()
           if before[key]["max"] < after[key]["min"] or after[key]["max"] < before[key]["min"]]
    return sorted(out, key=lambda one: one[1]["median"] / one[2]["median"])


def show(ratio):
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    before, after = ratios(sys.argv[1]), ratios(sys.argv[2])
    found = moved(before, after)
    for (figure, workers, rival), old, new in found:
        way = "worse" if new["median"] > old["median"] else "better"
        print(f"{way:6}  {figure}, {workers} workers, to {rival}: {show(old)} -> {show(new)}")
    print(f"{len(found)} of {len(before.keys() & after.keys())} ratios moved out of their spread")


if __name__ == "__main__":
    main()
