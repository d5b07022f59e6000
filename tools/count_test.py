#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What count.py makes of the outputs it meets."""

import pathlib
import shutil
import tempfile
import unittest

import count

GTEST = """[ RUN      ] a.b
[       OK ] a.b (0 ms)
[ RUN      ] a.c/0
[  FAILED  ] a.c/0, where GetParam() = 4 (12 ms)
[ RUN      ] a.d
[  SKIPPED ] a.d (0 ms)
[  PASSED  ] 1 test.
[  FAILED  ] 1 test, listed below:
[  FAILED  ] a.c/0, where GetParam() = 4
"""


def numbers(outcome):
    return outcome.passed, len(outcome.failed), outcome.skipped


class CountTest(unittest.TestCase):
    def test_googletest(self):
        self.assertEqual(numbers(count.count_entry("x", GTEST, False)), (1, 1, 1))

    def test_a_crash_after_passing_cases_is_one_failure(self):
        output = "[       OK ] a.b (0 ms)\n[ RUN      ] a.c\n"
        self.assertEqual(numbers(count.count_entry("x", output, False)), (1, 1, 0))

    def test_unittest(self):
        self.assertEqual(numbers(count.count_entry("x", "Ran 5 tests in 0.1s\n\nOK\n", True)),
                         (5, 0, 0))
        output = "Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=2)\n"
        self.assertEqual(numbers(count.count_entry("x", output, False)), (2, 3, 0))

    def test_unittest_with_subtests_and_skipped_ones(self):
        output = "Ran 7 tests in 0.1s\n\nFAILED (failures=30, skipped=1)\n"
        self.assertEqual(numbers(count.count_entry("x", output, False)), (0, 30, 1))
        output = "Ran 7 tests in 0.1s\n\nOK (skipped=2)\n"
        self.assertEqual(numbers(count.count_entry("x", output, True)), (5, 0, 2))

    def test_a_summary_of_its_own(self):
        self.assertEqual(numbers(count.count_entry("x", "ok\n7 passed, 2 failed\n", False)),
                         (7, 2, 0))

    def test_a_plain_program_is_one_case(self):
        self.assertEqual(numbers(count.count_entry("x", "", True)), (1, 0, 0))
        self.assertEqual(numbers(count.count_entry("x", "", False)), (0, 1, 0))

    def test_an_excerpt_begins_with_the_first_report(self):
        output = GTEST + "x\n" * 50 + "WARNING: ThreadSanitizer: data race\n" + "y" * 500 + "\n"
        self.assertEqual(count.excerpt(output),
                         ["WARNING: ThreadSanitizer: data race", "y" * count.EXCERPT_COLUMNS])

    def test_an_excerpt_without_a_report_is_the_end(self):
        output = "".join(f"{number}\n" for number in range(100))
        self.assertEqual(count.excerpt(output)[-1], "99")
        self.assertEqual(len(count.excerpt(output)), count.EXCERPT_LINES)

    def test_stages(self):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="count_test."))
        self.addCleanup(shutil.rmtree, directory)
        (directory / "tidy.status").write_text("0\n")
        (directory / "release.status").write_text("2\n")
        (directory / "asan.status").write_text("8\n")
        (directory / "asan.xml").write_text(
            '<testsuite><testcase name="one" status="run"><system-out>[       OK ] a.b (0 ms)'
            '</system-out></testcase><testcase name="two" status="fail"/>'
            '<testcase name="three" status="notrun"/></testsuite>')
        (directory / "e2e.status").write_text("0\n")
        (directory / "e2e.log").write_text("Ran 5 tests in 0.1s\n\nOK\n")
        # It built nothing of what it should have, though the tests there were passed.
        (directory / "tsan.status").write_text("1\n")
        (directory / "tsan.xml").write_text(
            '<testsuite><testcase name="one" status="run"/></testsuite>')
        outcome = count.count_directory(directory)
        self.assertEqual(numbers(outcome), (8, 4, 0))
        self.assertIn("release: stage release", outcome.failed)
        self.assertEqual(str(outcome), "8 passed, 4 failed")


if __name__ == "__main__":
    unittest.main()
