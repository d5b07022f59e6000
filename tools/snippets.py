#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the code in the documents the same as the code that is compiled.

Usage:  snippets.py            checks all pages; one line per finding, status 1 if there is any
        snippets.py --write    pastes the regions into the pages

A *region* of a file under examples or tests stands between two comments with its name in brackets,
`// [name]`. Lines that open or close other regions are left out of it, and so is its indentation.
A page asks for it by a comment line in front of a fenced block:

    <!-- examples/tracker.cpp [worker] -->
    ```cpp
    ...
    ```

Findings: a block that differs from its region; a comment without a block, or whose file or
region is not there; a block of C++ without a comment, as nobody compiles it; a region that no
page shows; a link to a file that is not there; a test that is named behind a link to its file,
and is not in it. tools/snippets_test.py shows an input for each.
"""

import argparse
import os
import pathlib
import re
import sys
import textwrap

SKIPPED_DIRECTORIES = {".git", "build", "__pycache__"}
SOURCES = (".cpp", ".hpp")
REQUEST = re.compile(r"^<!-- (\S+) \[([\w-]+)\] -->$")
MARK = re.compile(r"^\s*// \[([\w-]+)\]$")
FENCE = re.compile(r"^\s*```(\w*)\s*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# [select_test](../tests/chan/select_test.cpp) `its_name`, `another`
TESTS = re.compile(r"\]\((?:\.\./)*(tests/[\w/.]+)\)((?:,? `\w+`)+)")
COMPILED = {"cpp", "c++", "cc", "cxx"}


class Documents:
    """The pages of a checkout, the regions they may show, and what is wrong with them."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.findings = []
        self.pages = sorted(path for path in self._files(".md")
                            if not path.startswith(("tests/", "examples/")))
        self.regions = {}
        for path in sorted(self._files(*SOURCES)):
            if path.startswith(("examples/", "tests/")):
                self._read_regions(path)

    def _files(self, *suffixes):
        for directory, names, files in os.walk(self.root):
            names[:] = [name for name in names if name not in SKIPPED_DIRECTORIES]
            at = pathlib.Path(directory).relative_to(self.root)
            for name in files:
                if name.endswith(suffixes):
                    yield (at / name).as_posix()

    def _lines(self, path):
        return (self.root / path).read_text(encoding="utf-8").split("\n")

    def report(self, path, line, message):
        self.findings.append(f"{path}:{line}: {message}")

    def _read_regions(self, path):
        lines = self._lines(path)
        opened = {}
        for number, line in enumerate(lines, 1):
            mark = MARK.match(line)
            if not mark:
                continue
            name = mark.group(1)
            if name not in opened:
                if (path, name) in self.regions:
                    self.report(path, number, f"a second region [{name}]")
                opened[name] = number
                continue
            first = opened.pop(name)
            inside = [text for text in lines[first:number - 1] if not MARK.match(text)]
            self.regions[path, name] = (first, textwrap.dedent("\n".join(inside)).strip("\n"))
        for name, number in opened.items():
            self.report(path, number, f"the region [{name}] is not closed")

    def check(self):
        """Compares each page with what it asks for. Returns: the pages as they should be."""
        wanted = {}
        shown = set()
        for page in self.pages:
            wanted[page] = self._render(page, shown)
        for (path, name), (number, _) in self.regions.items():
            if (path, name) not in shown:
                self.report(path, number, f"no page shows the region [{name}]")
        return wanted

    def _render(self, page, shown):
        lines = self._lines(page)
        rendered = []
        at = 0
        while at < len(lines):
            line = lines[at]
            rendered.append(line)
            at += 1
            request = REQUEST.match(line)
            fence = FENCE.match(line)
            if request:
                at = self._render_block(page, lines, at, request, rendered, shown)
            elif fence:
                if fence.group(1).lower() in COMPILED:
                    self.report(page, at, "C++ that is no region of a compiled file")
                while at < len(lines):
                    rendered.append(lines[at])
                    at += 1
                    if FENCE.match(rendered[-1]):
                        break
            else:
                self._check_links(page, at, line)
        return "\n".join(rendered)

    def _render_block(self, page, lines, at, request, rendered, shown):
        """Appends the block that follows line `at`. Returns: the line after it."""
        if at == len(lines) or not FENCE.match(lines[at]):
            self.report(page, at, "no block follows")
            return at
        last = at + 1
        while last < len(lines) and not FENCE.match(lines[last]):
            last += 1
        if last == len(lines):
            self.report(page, at + 1, "the block is not closed")
            return at
        present = "\n".join(lines[at + 1:last])
        key = (request.group(1), request.group(2))
        if key in self.regions:
            shown.add(key)
            text = self.regions[key][1]
            if present != text:
                self.report(page, at, f"differs from {key[0]} [{key[1]}]")
        else:
            text = present
            self.report(page, at, f"there is no region [{key[1]}] in {key[0]}")
        rendered += [lines[at], *text.split("\n"), lines[last]]
        return last + 1

    def _check_links(self, page, number, line):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            path = target.partition("#")[0]
            if "://" in target or target.startswith("mailto:") or not path:
                continue
            if not (self.root / page).parent.joinpath(path).exists():
                self.report(page, number, f"a link to {path}, which is not there")
        for path, names in TESTS.findall(line):
            if not (self.root / path).is_file():
                continue
            text = "\n".join(self._lines(path))
            for name in re.findall(r"\w+", names):
                if not re.search(rf"\b{name}\b", text):
                    self.report(page, number, f"there is no test {name} in {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", action="store_true", help="paste the regions into the pages")
    parser.add_argument("--root", default=pathlib.Path(__file__).parent.parent,
                        help="the checkout; default: the one this file is in")
    arguments = parser.parse_args()

    documents = Documents(arguments.root)
    wanted = documents.check()
    if arguments.write:
        for page, text in wanted.items():
            path = documents.root / page
            if path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                print(f"{page}: written")
        documents = Documents(arguments.root)
        documents.check()
    for finding in documents.findings:
        print(finding)
    count = len(documents.findings)
    print(f"snippets: {len(documents.pages)} pages, {len(documents.regions)} regions, "
          f"{count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
