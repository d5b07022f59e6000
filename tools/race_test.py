#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tools/race makes of programs of a user's, which lie outside the tree.

It builds in build/tsan, from nothing in minutes; so only the suite of that preset runs this.
"""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parent / "race"
COMPILER = "clang++-19"  # That of the preset.

PROGRAM = """
#include <cstdio>
#include <cstring>
#include <mutex>
#include <exeunt/exeunt.hpp>

int main(int argc, char** argv) {
  const bool locks = argc > 1 && std::strcmp(argv[1], "locked") == 0;
  return exeunt::run([locks] {
    int counter = 0;
    exeunt::mutex mutex;
    exeunt::wait_group adders;
    for (const char* name : {"adder one", "adder two"}) {
      adders.go({.name = name}, [&] {
        std::unique_lock lock{mutex, std::defer_lock};
        if (locks) lock.lock();
        ++counter;
      });
    }
    adders.wait();
    std::printf("counted %d\\n", counter);
    return 5;
  });
}
"""


@unittest.skipIf(shutil.which(COMPILER) is None, f"there is no {COMPILER}")
class RaceTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def race(self, text, *arguments):
        """Writes the program, and runs it with these arguments."""
        source = pathlib.Path(self.directory.name) / "program.cpp"
        source.write_text(text)
        return subprocess.run([TOOL, source, "--", *arguments], capture_output=True, text=True,
                              check=False)

    def test_a_race_is_told_with_both_fibers(self):
        done = self.race(PROGRAM)
        self.assertEqual(done.returncode, 66, done.stdout + done.stderr)
        for wanted in ("WARNING: ThreadSanitizer: data race", "'adder one'", "'adder two'"):
            self.assertIn(wanted, done.stderr)

    def test_a_program_without_gets_its_arguments_and_has_its_own_status(self):
        done = self.race(PROGRAM, "locked")
        self.assertEqual(done.returncode, 5, done.stdout + done.stderr)
        self.assertIn("counted 2", done.stdout)
        self.assertNotIn("WARNING", done.stderr)

    def test_what_does_not_compile_is_told_and_in_nobodys_way(self):
        done = self.race("int main() { return no_such_name; }\n")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("no_such_name", done.stdout + done.stderr)
        self.directory.cleanup()
        again = subprocess.run(["cmake", "--preset", "tsan"], cwd=TOOL.parent.parent,
                               capture_output=True, text=True, check=False)
        self.assertEqual(again.returncode, 0, again.stdout + again.stderr)


if __name__ == "__main__":
    unittest.main()
