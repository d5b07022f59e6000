#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""For each rule of tidy.py a small tree that breaks it, and one that does not."""

import pathlib
import shutil
import tempfile
import unittest

import tidy

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
LAYERS = "base:\nsched: base\nchan: base sched\nnet: base sched\n"
# Written in halves, so that this file passes the rules it tests.
OPEN = "TO" + "DO"
PLACE = "/wo" + "rk/main"


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="tidy_test."))
        self.addCleanup(shutil.rmtree, self.root)
        self.write("tools/layers.txt", LAYERS)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def findings(self, compiler=None):
        return tidy.check_all(tidy.Tree(self.root), compiler)

    def rules(self, compiler=None):
        return sorted({finding.split(": ")[1] for finding in self.findings(compiler)})

    def write_room(self, room="chan", uses="base sched"):
        """A room that breaks nothing."""
        self.write(f"include/exeunt/{room}/core.hpp", SPDX + "#pragma once\nint core();\n")
        self.write(f"src/{room}/core.cpp", SPDX + f"#include <exeunt/{room}/core.hpp>\n")
        self.write(f"tests/{room}/core_test.cpp", SPDX + f"#include <exeunt/{room}/core.hpp>\n")
        self.write(f"src/{room}/CMakeLists.txt",
                   f"exeunt_room({room} USES {uses} PUBLIC {room}/core.hpp SOURCES core.cpp)\n"
                   f"exeunt_test({room} core_test.cpp LABEL unit)\n")

    def test_a_good_room_passes(self):
        self.write_room()
        self.assertEqual(self.findings("g++"), [])

    def test_layers_file_must_be_in_order(self):
        self.write("tools/layers.txt", "sched: base\nbase:\n")
        self.assertEqual(self.rules(), ["layers"])

    def test_room_must_be_known(self):
        self.write("src/attic/x.hpp", SPDX + "#pragma once\n")
        self.assertEqual(self.rules(), ["layers"])

    def test_lower_room_may_not_include_a_higher_one(self):
        self.write_room("chan")
        self.write_room("sched", "base")
        self.write("src/sched/core.cpp", SPDX + "#include <exeunt/chan/core.hpp>\n")
        self.assertEqual(self.rules(), ["layers"])

    def test_private_headers_obey_layers_too(self):
        self.write_room("net")
        self.write("src/net/fd.hpp", SPDX + "#pragma once\n")
        self.write_room("chan")
        self.write("src/chan/core.cpp", SPDX + '#include "net/fd.hpp"\n')
        self.assertEqual(self.rules(), ["layers"])

    def test_test_may_use_all_below_but_no_sibling(self):
        self.write_room("chan")
        self.write_room("net")
        self.write("tests/chan/core_test.cpp", SPDX + "#include <exeunt/net/core.hpp>\n")
        self.assertEqual(self.rules(), ["layers"])

    def test_cmake_uses_must_be_allowed(self):
        self.write_room("chan", "base net")
        self.assertEqual(self.rules(), ["layers"])

    def test_include_must_exist(self):
        self.write_room()
        self.write("src/chan/core.cpp", SPDX + "#include <exeunt/chan/cor.hpp>\n")
        self.assertEqual(self.rules(), ["include"])

    def test_public_header_may_not_include_a_private_one(self):
        self.write_room()
        self.write("src/chan/ring.hpp", SPDX + "#pragma once\n")
        self.write("include/exeunt/chan/core.hpp",
                   SPDX + '#pragma once\n#include "chan/ring.hpp"\n')
        self.assertEqual(self.rules(), ["include"])

    def test_include_relative_to_the_file_is_refused(self):
        self.write_room()
        self.write("src/chan/ring.hpp", SPDX + "#pragma once\n")
        self.write("src/chan/core.cpp", SPDX + '#include "ring.hpp"\n')
        self.assertEqual(self.rules(), ["include"])

    def test_test_may_include_its_own_fixture(self):
        self.write_room()
        self.write("tests/chan/parked.hpp", SPDX + "#pragma once\n")
        self.write("tests/chan/core_test.cpp", SPDX + '#include "chan/parked.hpp"\n')
        self.assertEqual(self.findings(), [])
        (self.root / "tests/chan/parked.hpp").unlink()
        self.assertEqual(self.rules(), ["include"])

    def test_files_must_be_listed(self):
        self.write_room()
        for path in ("include/exeunt/chan/more.hpp", "src/chan/core_more.cpp",
                     "tests/chan/core_more_test.cpp"):
            with self.subTest(path):
                self.write(path, SPDX + "#pragma once\n// Tests: core_test.cpp\n")
                self.assertIn("listed", self.rules())
                (self.root / path).unlink()

    def test_source_needs_a_test_of_its_stem(self):
        self.write_room()
        (self.root / "tests/chan/core_test.cpp").unlink()
        self.assertEqual(self.rules(), ["mirror"])

    def test_source_may_name_its_tests(self):
        self.write_room()
        self.write("src/chan/CMakeLists.txt",
                   "exeunt_room(chan PUBLIC chan/core.hpp SOURCES core.cpp ring.cpp)\n"
                   "exeunt_test(chan core_test.cpp LABEL unit)\n")
        self.write("src/chan/ring.cpp", SPDX + "// A ring.\n// Tests: tests/chan/core_test.cpp\n")
        self.assertEqual(self.findings(), [])
        self.write("src/chan/ring.cpp", SPDX + "// A ring.\n// Tests: tests/chan/ring_test.cpp\n")
        self.assertEqual(self.rules(), ["mirror"])

    def test_test_needs_a_source(self):
        self.write_room()
        self.write("tests/chan/other_test.cpp", SPDX)
        self.write("src/chan/CMakeLists.txt",
                   "exeunt_room(chan PUBLIC chan/core.hpp SOURCES core.cpp)\n"
                   "exeunt_test(chan core_test.cpp other_test.cpp LABEL unit)\n")
        self.assertEqual(self.rules(), ["mirror"])

    def test_spdx_line_comes_first(self):
        self.write("examples/x.cpp", "// A program.\n" + SPDX)
        self.assertEqual(self.rules(), ["spdx"])

    def test_width_and_space(self):
        self.write("examples/x.cpp", SPDX + "//" + "x" * 98 + "\n")
        self.assertEqual(self.findings(), [])
        self.write("examples/x.cpp", SPDX + "//" + "x" * 99 + "\n")
        self.assertEqual(self.rules(), ["width"])
        self.write("examples/x.cpp", SPDX + "int x; \n")
        self.assertEqual(self.rules(), ["space"])
        self.write("examples/x.cpp", SPDX + "\tint x;\n")
        self.assertEqual(self.rules(), ["space"])

    def test_open_work_names_its_issue(self):
        self.write("examples/x.cpp", SPDX + f"// {OPEN}: later\n")
        self.assertEqual(self.rules(), ["open-work"])
        self.write("examples/x.cpp", SPDX + f"// {OPEN}(#12): later\n")
        self.assertEqual(self.findings(), [])

    def test_words_of_the_day(self):
        self.write("docs/x.md", f"See {PLACE}.\n")
        self.assertEqual(self.rules(), ["passing-words"])

    def test_pragma_once(self):
        self.write("src/chan/x.hpp", SPDX)
        self.assertEqual(self.rules(), ["pragma-once"])

    def test_headers_for_listed_files_only(self):
        for header, rule in (("atomic", "atomic-door"), ("thread", "atomic-door"),
                             ("iostream", "header"), ("sys/epoll.h", "os-header")):
            with self.subTest(header):
                self.write_room()
                self.write("include/exeunt/chan/core.hpp",
                           SPDX + f"#pragma once\n#include <{header}>\n")
                self.assertEqual(self.rules(), [rule])

    def test_code_rules(self):
        for line, rule in (("thread_local int x;", "thread-local"),
                           ("auto t = std::chrono::steady_clock::now();", "clock"),
                           ("int r = rand();", "random")):
            with self.subTest(line):
                self.write_room()
                self.write("src/chan/core.cpp", SPDX + line + "\n")
                self.assertEqual(self.rules(), [rule])

    def test_comments_and_strings_are_not_code(self):
        self.write_room()
        self.write("src/chan/core.cpp", SPDX + "// no thread_local here\n"
                   'const char* s = "thread_local"; int n = 1\'000; /* rand() */\n')
        self.assertEqual(self.findings(), [])

    def test_no_sleep_but_in_stress_tests(self):
        self.write_room()
        for sleeps in ("this_thread::sleep_for(x);", "exeunt::sleep(10ms);", "::usleep(5);",
                       "sleep_until(when);", "EXPECT_TRUE(sleep(ctx, 1s));",
                       "while (clock::now() < until) yield();"):
            with self.subTest(sleeps):
                self.write("tests/chan/core_test.cpp", SPDX + "void f() { " + sleeps + " }\n")
                self.assertEqual(self.rules(), ["sleep"])
        self.write("tests/chan/core_test.cpp",
                   SPDX + "void f() { park(wait_reason::sleep); other.sleep(1); asleep(2); }\n")
        self.assertEqual(self.findings(), [])
        self.write("tests/chan/core_test.cpp", SPDX + "void f() { sleep(1s); }\n")
        (self.root / "tests/chan/core_test.cpp").rename(
            self.root / "tests/chan/core_stress_test.cpp")
        self.write("src/chan/CMakeLists.txt",
                   "exeunt_room(chan PUBLIC chan/core.hpp SOURCES core.cpp)\n"
                   "exeunt_test(chan core_stress_test.cpp LABEL stress)\n")
        self.assertEqual(self.findings(), [])

    def test_a_simulation_may_sleep(self):
        self.write_room()
        for simulated in ("EXEUNT_SIM_TEST(chan, x) { if (a) { b(); } sleep(1s); }",
                          "EXEUNT_EXPLORE_TEST(chan, x, .schedules = max(1, 2)) { sleep(1s); }",
                          "void g() { sim::bubble([] { sleep(1s); }); }",
                          'void g() { sim::explore({.name = "("}, [] { sleep(1s); }); }'):
            with self.subTest(simulated):
                self.write("tests/chan/core_test.cpp", SPDX + simulated + "\n")
                self.assertEqual(self.findings(), [])
                self.write("tests/chan/core_test.cpp",
                           SPDX + simulated + "\nvoid f() {\n  sleep(1s);\n}\n")
                findings = self.findings()
                self.assertEqual(len(findings), 1)
                self.assertTrue(findings[0].startswith("tests/chan/core_test.cpp:4: sleep:"))

    def test_tests_include_what_is_precompiled(self):
        self.write_room()
        for uses in ("int f() { return std::max(1, 2); }", "std::vector<int> v;",
                     "TEST(chan, x) {}"):
            with self.subTest(uses):
                self.write("tests/chan/core_test.cpp", SPDX + uses + "\n")
                self.assertEqual(self.rules(), ["standard"])
        self.write("tests/support/helper.hpp", SPDX + "#include <string>\n")
        self.write("tests/chan/core_test.cpp",
                   SPDX + '#include <gtest/gtest.h>\n#include <vector>\n'
                   '#include "support/helper.hpp"\n'
                   "TEST(chan, x) {}\nstd::vector<std::string_view> v;\n")
        self.assertEqual(self.findings(), [])

    def test_exceptions_need_a_reason_and_a_need(self):
        self.write_room()
        self.write("src/chan/core.cpp", SPDX + "thread_local int x;\n")
        self.write("tools/allowed.txt", "thread-local src/chan/core.cpp -- for this test\n")
        self.assertEqual(self.findings(), [])
        self.write("tools/allowed.txt", "thread-local src/chan/core.cpp\n")
        self.assertEqual(self.rules(), ["exception", "thread-local"])
        self.write("tools/allowed.txt", "thread-local src/chan/*.cpp -- yes\nclock src/x -- no\n")
        self.assertEqual(self.rules(), ["exception"])

    def test_headers_stand_alone(self):
        self.write_room()
        self.write("include/exeunt/chan/core.hpp", SPDX + "#pragma once\nstd::size_t core();\n")
        self.assertEqual(self.rules("g++"), ["stands-alone"])
        self.write("include/exeunt/chan/core.hpp",
                   SPDX + "#pragma once\n#include <cstddef>\nstd::size_t core();\n")
        self.assertEqual(self.rules("g++"), [])

    def test_a_passed_header_is_checked_again_when_what_it_includes_changed(self):
        self.write_room("base", "")
        self.write_room("chan")
        self.write("include/exeunt/chan/core.hpp",
                   SPDX + "#pragma once\n#include <exeunt/base/core.hpp>\nint f(int x = core());\n")
        self.assertEqual(self.findings("g++"), [])
        self.write("include/exeunt/base/core.hpp", SPDX + "#pragma once\nint score();\n")
        self.assertEqual(self.rules("g++"), ["stands-alone"])

    def test_below(self):
        tree = tidy.Tree(self.root)
        self.assertEqual(tree.below("chan"), ["base", "sched", "chan"])


if __name__ == "__main__":
    unittest.main()
