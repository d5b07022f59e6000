#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What benchdiff.py calls a change."""

import json
import pathlib
import tempfile
import unittest

import benchdiff


def ratio(median, low, high):
    return {"median": median, "min": low, "max": high}


class BenchdiffTest(unittest.TestCase):
    def test_only_what_left_the_spread_has_moved(self):
        before = {("a", 1, "go"): ratio(0.5, 0.4, 0.6), ("b", 1, "go"): ratio(1.0, 0.9, 1.1)}
        after = {("a", 1, "go"): ratio(0.7, 0.6, 0.8), ("b", 1, "go"): ratio(1.3, 1.2, 1.4)}
        self.assertEqual([key for key, *_ in benchdiff.moved(before, after)], [("b", 1, "go")])

    def test_the_worst_comes_first_and_improvements_count(self):
        before = {("a", 1, "go"): ratio(1, 1, 1), ("b", 2, "go"): ratio(1, 1, 1)}
        after = {("a", 1, "go"): ratio(0.5, 0.5, 0.5), ("b", 2, "go"): ratio(2, 2, 2)}
        self.assertEqual([key[0] for key, *_ in benchdiff.moved(before, after)], ["b", "a"])

    def test_figures_of_one_file_only_are_left_out(self):
        self.assertEqual(benchdiff.moved({("a", 1, "go"): ratio(1, 1, 1)}, {}), [])

    def test_reads_what_bench_run_writes(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "results.json"
            path.write_text(json.dumps({"rows": [{"figure": "a", "workers": 2,
                                                  "ratios": {"go": ratio(1, 1, 1)}}]}))
            self.assertEqual(list(benchdiff.ratios(path)), [("a", 2, "go")])


if __name__ == "__main__":
    unittest.main()
