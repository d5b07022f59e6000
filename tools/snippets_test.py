#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows for each finding of snippets.py an input that has it, and for a sound page none."""

import pathlib
import tempfile
import unittest

import snippets

EXAMPLE = """// A lesson.
int main() {
  // [body]
  if (ready()) {
    // [inner]
    go();
    // [inner]
  }

  // [body]
}
"""
BODY = "if (ready()) {\n  go();\n}"


class SnippetsTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.root = pathlib.Path(self.directory.name)
        self.write("examples/lesson.cpp", EXAMPLE)
        self.page = (self.block("body", BODY) + self.block("inner", "go();")
                     + "[source](../examples/lesson.cpp#L1) `[x](y)`\n")
        self.write("docs/page.md", self.page)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    @staticmethod
    def block(region, text, file="examples/lesson.cpp"):
        return f"<!-- {file} [{region}] -->\n```cpp\n{text}\n```\n\n"

    def findings(self):
        documents = snippets.Documents(self.root)
        self.wanted = documents.check()
        return documents.findings

    def assert_finding(self, *words):
        findings = self.findings()
        self.assertEqual(len(findings), 1, findings)
        for word in words:
            self.assertIn(word, findings[0])

    def test_sound_page(self):
        self.assertEqual(self.findings(), [])
        self.assertEqual(self.wanted["docs/page.md"], self.page)

    def test_drift_is_found_and_mended(self):
        self.write("docs/page.md", self.page.replace("  go();", "  went();"))
        self.assert_finding("docs/page.md:1", "differs from examples/lesson.cpp [body]")
        self.assertEqual(self.wanted["docs/page.md"], self.page)

    def test_change_of_the_source_is_drift(self):
        self.write("examples/lesson.cpp", EXAMPLE.replace("ready()", "is_ready()"))
        self.assert_finding("differs")
        self.assertIn("if (is_ready()) {", self.wanted["docs/page.md"])

    def test_region_that_is_not_there(self):
        self.write("docs/page.md", self.page + self.block("gone", "x"))
        self.assert_finding("no region [gone]")
        self.assertIn("\nx\n", self.wanted["docs/page.md"])

    def test_file_outside_of_examples_and_tests(self):
        self.write("src/lesson.cpp", EXAMPLE)
        self.write("docs/page.md", self.page + self.block("body", BODY, "src/lesson.cpp"))
        self.assert_finding("no region [body] in src/lesson.cpp")

    def test_region_that_is_not_closed(self):
        self.write("examples/lesson.cpp", EXAMPLE + "// [rest]\n")
        self.assert_finding("examples/lesson.cpp:12", "[rest] is not closed")

    def test_region_that_is_there_twice(self):
        self.write("examples/lesson.cpp", EXAMPLE + "// [inner]\ngo();\n// [inner]\n")
        self.assert_finding("a second region [inner]")

    def test_region_that_no_page_shows(self):
        self.write("docs/page.md", self.block("body", BODY))
        self.assert_finding("examples/lesson.cpp:5", "no page shows the region [inner]")

    def test_request_without_a_block(self):
        self.write("docs/page.md", self.page + "<!-- examples/lesson.cpp [body] -->\ntext\n")
        self.assert_finding("no block follows")

    def test_block_that_is_not_closed(self):
        self.write("docs/page.md",
                   self.page + "<!-- examples/lesson.cpp [body] -->\n```cpp\n" + BODY)
        self.assertIn("the block is not closed", self.findings()[0])

    def test_code_that_nobody_compiles(self):
        self.write("docs/page.md", self.page + "```cpp\nint x;\n```\n")
        self.assert_finding("C++ that is no region")

    def test_other_blocks_are_left_alone(self):
        self.write("docs/page.md",
                   self.page + "```\n[a](b) <!-- x [y] -->\n```\n```sh\nmake\n```\n")
        self.assertEqual(self.findings(), [])

    def test_link_that_leads_nowhere(self):
        self.write("docs/page.md",
                   self.page + "see [there](there.md), [here](#a), [web](http://x)\n")
        self.assert_finding("a link to there.md")

    def test_named_test_that_is_not_there(self):
        self.write("tests/a_test.cpp", "TEST(a, works)\n")
        self.write("docs/page.md", self.page + "[a_test](../tests/a_test.cpp) `works`, `fails`\n")
        self.assert_finding("no test fails in tests/a_test.cpp")

    def test_write(self):
        self.write("docs/page.md", self.page.replace("go();\n```", "```"))
        documents = snippets.Documents(self.root)
        for page, text in documents.check().items():
            self.write(page, text)
        self.assertEqual(self.findings(), [])


class ProjectTest(unittest.TestCase):
    def test_pages_of_this_project(self):
        documents = snippets.Documents(pathlib.Path(__file__).resolve().parent.parent)
        documents.check()
        self.assertEqual(documents.findings, [], "mend with tools/snippets.py --write")
        self.assertGreater(len(documents.regions), 10)


if __name__ == "__main__":
    unittest.main()
