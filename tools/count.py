#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts single test cases in the results of CTest, whose entries are whole executables.

Usage:  count.py <result.xml>        prints `N passed, N failed` for one run
        count.py <results directory> the same for all stages of CI (tools/stage) together

For one run, what an entry that failed said is shown once more: who reads a long log reads its end.

An entry's output is read for GoogleTest's lines, for unittest's summary, or for a last line
`N passed, N failed` of its own. An entry that failed without a failing case (a crash, a time-out)
counts as one failure. A stage without CTest is counted by its log in the same way; one that ran no
tests counts as one case; one that failed although its tests passed, or before it had any, as one
failure.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

GTEST_PASSED = re.compile(r"^\[       OK \] ", re.MULTILINE)
GTEST_FAILED = re.compile(r"^\[  FAILED  \] (\S+?)(?:,.*)? \(\d+ ms\)$", re.MULTILINE)
GTEST_SKIPPED = re.compile(r"^\[  SKIPPED \] \S+ \(\d+ ms\)$", re.MULTILINE)
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_END = re.compile(r"^(?:FAILED|OK) \((.*)\)$", re.MULTILINE)
# Where a sanitizer's, GoogleTest's, unittest's or our own report begins.
REPORT = re.compile(r"WARNING: \w+Sanitizer|ERROR: \w+Sanitizer|: runtime error: |: Failure$|"
                    r"^(?:FAIL|ERROR): |^exeunt: ", re.MULTILINE)
EXCERPT_LINES = 30
EXCERPT_COLUMNS = 160
OWN_SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


class Outcome:
    """Cases that passed, cases that were skipped, and the names of those that failed."""

    def __init__(self, passed=0, failed=(), skipped=0):
        self.passed = passed
        self.failed = list(failed)
        self.skipped = skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {len(self.failed)} failed"


def count_entry(name, output, succeeded):
    """The outcome of one CTest entry."""
    outcome = Outcome()
    own = OWN_SUMMARY.findall(output)
    ran = UNITTEST_RAN.findall(output)
    if own:
        outcome.passed = int(own[-1][0])
        outcome.failed = [name] * int(own[-1][1])
    elif ran:
        kinds = " ".join(UNITTEST_END.findall(output))
        outcome.failed = [name] * sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", kinds)))
        outcome.skipped = sum(map(int, re.findall(r"skipped=(\d+)", kinds)))
        # A test whose subtests fail has more failures than one.
        outcome.passed = max(0, sum(map(int, ran)) - len(outcome.failed) - outcome.skipped)
    else:
        outcome.passed = len(GTEST_PASSED.findall(output))
        outcome.failed = [f"{name}: {case}" for case in GTEST_FAILED.findall(output)]
        outcome.skipped = len(GTEST_SKIPPED.findall(output))
    if succeeded and not outcome.passed and not outcome.failed and not outcome.skipped:
        outcome.passed = 1
    if not succeeded and not outcome.failed:
        outcome.failed = [f"{name}: crashed, timed out or was not built"]
    return outcome


def entries(path):
    """Name, output and success of each entry of one JUnit file of CTest's."""
    for entry in ElementTree.parse(path).getroot().iter("testcase"):
        yield entry.get("name"), entry.findtext("system-out") or "", entry.get("status") == "run"


def count_file(path):
    """The outcome of one JUnit file of CTest's."""
    outcome = Outcome()
    for name, output, succeeded in entries(path):
        outcome.add(count_entry(name, output, succeeded))
    return outcome


def excerpt(output):
    """The lines from the first report in `output`, or its last lines if there is none."""
    found = REPORT.search(output)
    if found:
        begin = output.rfind("\n", 0, found.start()) + 1
        lines = output[begin:].splitlines()[:EXCERPT_LINES]
    else:
        lines = output.splitlines()[-EXCERPT_LINES:]
    return [line[:EXCERPT_COLUMNS] for line in lines]


def show_failures(path):
    """Prints what the entries of one JUnit file that failed have to say."""
    for name, output, succeeded in entries(path):
        if not succeeded:
            print(f"{name} said:")
            for line in excerpt(output):
                print("  ", line)


def count_directory(directory):
    """The outcome of all stages that left a status in `directory`."""
    total = Outcome()
    for status in sorted(directory.glob("*.status")):
        name = status.stem
        succeeded = status.read_text().strip() == "0"
        result = status.with_suffix(".xml")
        log = status.with_suffix(".log")
        if result.exists():
            outcome = count_file(result)
        elif log.exists():
            outcome = count_entry(name, log.read_text(errors="replace"), succeeded)
        else:
            outcome = Outcome(1 if succeeded else 0)
        if not succeeded and not outcome.failed:
            outcome.failed.append(f"stage {name}")
        outcome.failed = [f"{name}: {case}" for case in outcome.failed]
        total.add(outcome)
    return total


def main(argv):
    path = pathlib.Path(argv[1])
    if path.is_dir():
        outcome = count_directory(path)
    elif path.exists():
        show_failures(path)
        outcome = count_file(path)
    else:
        outcome = Outcome(failed=[f"{path.stem}: no results"])
    for name in outcome.failed:
        print("failed:", name)
    if outcome.skipped:
        print("skipped:", outcome.skipped)
    print(outcome)
    return 1 if outcome.failed or not outcome.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
