#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what a compiler does not: layers, mirrors, headers that stand alone, house rules.

Usage:  tidy.py                 checks the tree; one line per finding, status 1 if there is any
        tidy.py --no-compile    the same without compiling the public headers
        tidy.py --below ROOM    prints ROOM and the rooms it rests on, lowest first

The rules are the functions called check_*; the exceptions to them stand in tools/allowed.txt, each
with its reason. tools/tidy_test.py shows for each rule an input that breaks it.
"""

import argparse
import concurrent.futures
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

LINE_WIDTH = 100
CODE = {".hpp", ".cpp", ".S", ".c", ".h"}
SCRIPTS = {".py", ".sh", ".cmake"}
SKIPPED_DIRECTORIES = {".git", "build", "__pycache__"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# The room that is beside the layers: the tests of any room may use it.
SIMULATION = "sim"
THREADING_HEADERS = {"atomic", "mutex", "shared_mutex", "thread", "condition_variable", "future",
                     "semaphore", "latch", "barrier"}
CLOCK_READS = re.compile(r"\b(?:steady|system|high_resolution)_clock::now\b|\bclock_gettime\s*\("
                         r"|\bgettimeofday\s*\(|\btime\s*\(\s*(?:nullptr|NULL|0)\s*\)")
RANDOM_READS = re.compile(r"\brandom_device\b|\bs?rand\s*\(|\bgetrandom\s*\(|\bmt19937")
# Ours, the standard's and the system's; also as a loop that looks at the clock.
SLEEPS = re.compile(r"(?<![\w.>])(?:\w+::)*(?:u|nano|clock_nano)?sleep(?:_for|_until)?\s*\("
                    r"|\bwhile\s*\(\s*(?:\w+::)*clock::now\(\)\s*<")
# What follows runs in a simulation, where time is virtual: the body of a test, or an argument.
SIMULATED_TEST = re.compile(r"\bEXEUNT_(?:SIM|EXPLORE)_TEST\s*\(")
SIMULATED_CALL = re.compile(r"\b(?:bubble|explore|expect_bubble|expect_explored)\s*(?=\()")
OPEN_WORK = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b(?!\(#\d+\):)")
# Words of the day it was written, and paths of the place where, mean nothing to a reader.
PASSING_WORDS = re.compile(r"\b(?:this|previous|earlier|next) (?:session|conversation|chat)\b"
                           r"|(?<![\w./-])/(?:work|root|home/\w+)/", re.IGNORECASE)
# What the presets that precompile headers give to each test unasked (cmake/room.cmake): a header,
# and the names by which its use is known. GoogleTest's own header brings the rest.
PRECOMPILED = {
    "algorithm": "all_of any_of clamp copy copy_n count count_if equal fill find find_if for_each "
                 "max max_element min min_element none_of reverse rotate shuffle sort unique",
    "array": "array",
    "atomic": "atomic atomic_flag atomic_thread_fence memory_order memory_order_acq_rel "
              "memory_order_acquire memory_order_relaxed memory_order_release "
              "memory_order_seq_cst",
    "chrono": "chrono chrono_literals",
    "exception": "current_exception exception_ptr make_exception_ptr rethrow_exception "
                 "uncaught_exceptions",
    "expected": "expected unexpect unexpected",
    "functional": "bind_front cref function hash invoke less plus ref reference_wrapper",
    "memory": "addressof construct_at destroy_at make_shared make_unique shared_ptr unique_ptr "
              "weak_ptr",
    "mutex": "adopt_lock call_once defer_lock lock_guard mutex once_flag recursive_mutex "
             "scoped_lock try_to_lock unique_lock",
    "new": "align_val_t bad_alloc launder nothrow nothrow_t",
    "optional": "nullopt nullopt_t optional",
    "set": "multiset set",
    "source_location": "source_location",
    "span": "as_bytes as_writable_bytes span",
    "stdexcept": "domain_error invalid_argument length_error logic_error out_of_range "
                 "range_error runtime_error",
    "string": "getline stoi stol stoul stoull string to_string",
    "string_view": "string_view",
    "system_error": "errc error_category error_code error_condition generic_category "
                    "system_category system_error",
    "thread": "jthread this_thread thread",
    "type_traits": "conditional_t decay_t invoke_result_t is_same_v is_void_v remove_cvref_t "
                   "remove_reference_t",
    "utility": "as_const exchange forward in_place move pair swap",
    "vector": "vector",
}
OS_HEADER = re.compile(r"^(?:sys|linux|netinet|arpa|asm)/"
                       r"|^(?:unistd|pthread|signal|fcntl|poll|netdb|dlfcn|sched|errno)\.h$"
                       r"|^(?:ucontext\.h|csignal|cerrno)$")


class Tree:
    """The files of a checkout and what is known of them."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.findings = []
        self.used_exceptions = set()
        self.files = self._list_files()
        self.known = set(self.files)
        self.layers = self._read_layers()
        self.exceptions = self._read_exceptions()
        self._lines = {}

    def _list_files(self):
        found = []
        for directory, names, files in os.walk(self.root):
            names[:] = sorted(name for name in names if name not in SKIPPED_DIRECTORIES)
            at = pathlib.Path(directory).relative_to(self.root)
            found += [(at / name).as_posix() for name in sorted(files)]
        return found

    def _read_layers(self):
        layers = {}
        for line in self._settings("tools/layers.txt"):
            room, _, lower = line.partition(":")
            layers[room.strip()] = lower.split()
        return layers

    def _read_exceptions(self):
        exceptions = []
        for line in self._settings("tools/allowed.txt"):
            subject, _, reason = line.partition("--")
            fields = subject.split()
            if len(fields) != 2 or not reason.strip():
                self.report("tools/allowed.txt", 0, "exception",
                            f"not `rule path -- reason`: {line}")
                continue
            exceptions.append(tuple(fields))
        return exceptions

    def _settings(self, path):
        """The lines of a settings file without comments and blanks."""
        if path not in self.files:
            return []
        lines = (self.root / path).read_text(encoding="utf-8").splitlines()
        return [line for line in map(str.strip, lines) if line and not line.startswith("#")]

    def lines(self, path):
        if path not in self._lines:
            text = (self.root / path).read_bytes().decode("utf-8", errors="replace")
            self._lines[path] = text.splitlines()
        return self._lines[path]

    def code(self, path):
        """The lines with comments and the insides of string literals taken out."""
        text = "\n".join(self.lines(path))
        pattern = r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''

        def blank(match):
            kept = '""' if match.group(0)[0] in "\"R" else ""
            return kept + "\n" * match.group(0).count("\n")

        # Digit separators look like character literals.
        text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text)
        return re.sub(pattern, blank, text, flags=re.DOTALL).split("\n")

    def includes(self, path):
        """(line number, quote character, name) of each #include."""
        found = []
        for number, line in enumerate(self.lines(path), 1):
            match = INCLUDE.match(line)
            if match:
                found.append((number, match.group(1), match.group(2)))
        return found

    def report(self, path, line, rule, message):
        for exception in getattr(self, "exceptions", []):
            if exception[0] == rule and fnmatch.fnmatchcase(path, exception[1]):
                self.used_exceptions.add(exception)
                return
        self.findings.append(f"{path}:{line}: {rule}: {message}")

    def under(self, *directories, suffixes=CODE):
        return [path for path in self.files
                if path.startswith(tuple(directory + "/" for directory in directories))
                and pathlib.PurePosixPath(path).suffix in suffixes]

    def below(self, room):
        """`room` and all it rests on, in layer order."""
        reached = set()
        waiting = [room]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += self.layers[one]
        return [one for one in self.layers if one in reached]


def room_of(path):
    """The room a file of one of the mirrored trees belongs to, else None."""
    parts = path.split("/")
    if path.startswith("include/exeunt/") and len(parts) > 3:
        return parts[2]
    if parts[0] in ("src", "tests", "bench") and len(parts) > 2:
        return parts[1]
    return None


def check_layer_list(tree):
    """tools/layers.txt is acyclic: a room names only rooms above it in the file."""
    seen = set()
    for room, lower in tree.layers.items():
        for one in lower:
            if one not in seen:
                tree.report("tools/layers.txt", 0, "layers", f"{room} uses {one}, listed after it")
        seen.add(room)
    for path in tree.files:
        room = room_of(path)
        if path.startswith(("src/", "include/")) and room and room not in tree.layers:
            tree.report(path, 1, "layers", f"there is no room {room} in tools/layers.txt")


def check_includes(tree):
    """An #include names an existing file, in the form for its kind, of a room that may be used."""
    rooms = set(tree.layers)
    files = set(tree.files)
    for path in tree.under("include/exeunt", "src", "tests", "bench", "examples"):
        room = room_of(path)
        top = path.split("/")[0]
        for number, quote, name in tree.includes(path):
            parts = name.split("/")
            if quote == "<" and parts[0] == "exeunt":
                used = parts[1] if len(parts) > 2 else None
                if f"include/{name}" not in files:
                    tree.report(path, number, "include", f"there is no <{name}>")
            elif quote == '"' and parts[0] in rooms:
                used = parts[0]
                if path.startswith("include/"):
                    tree.report(path, number, "include", f'a public header includes "{name}"')
                elif path.startswith(("tests/", "bench/")) and f"{top}/{name}" in files:
                    pass
                elif f"src/{name}" not in files:
                    tree.report(path, number, "include", f'there is no "{name}" in src')
            elif quote == '"' and path.startswith(("src/", "include/")):
                tree.report(path, number, "include",
                            f'"{name}" is neither <exeunt/room/x.hpp> nor "room/x.hpp"')
                continue
            else:
                continue
            if room not in rooms or used == room:
                continue
            if used is None:
                if path.startswith(("src/", "include/")):
                    tree.report(path, number, "layers", "the umbrella header is for users")
            elif path.startswith(("src/", "include/")) and used not in tree.layers[room]:
                tree.report(path, number, "layers", f"{room} may not use {used}")
            elif used not in tree.below(room) and used != SIMULATION:
                tree.report(path, number, "layers", f"tests of {room} rest on {used}")


def room_lists(tree, room):
    """The words of src/<room>/CMakeLists.txt by the keyword they follow."""
    path = f"src/{room}/CMakeLists.txt"
    lists = {"USES": set(), "PUBLIC": set(), "SOURCES": set(), "tests": set()}
    if path not in tree.files:
        return path, lists
    text = "\n".join(line.partition("#")[0] for line in tree.lines(path))
    keyword = None
    for word in re.findall(r"[^\s()]+", text):
        if word in lists:
            keyword = word
        elif re.fullmatch(r"[A-Z_]+", word) or word.startswith("exeunt_"):
            keyword = None
        elif keyword:
            lists[keyword].add(word.strip('"'))
        if word.endswith("_test.cpp"):
            lists["tests"].add(word)
    return path, lists


def check_room_lists(tree):
    """A room's CMakeLists.txt uses lower rooms only, and names every file that is there."""
    for room in tree.layers:
        path, lists = room_lists(tree, room)
        if path not in tree.files:
            continue
        for used in sorted(lists["USES"] - set(tree.layers[room])):
            tree.report(path, 0, "layers", f"{room} may not use {used}")
        sources = " ".join(tree.lines(path))
        for file in tree.files:
            name = file.rpartition("/")[2]
            if file.startswith(f"include/exeunt/{room}/"):
                if f"{room}/{name}" not in lists["PUBLIC"]:
                    tree.report(file, 1, "listed", f"not under PUBLIC in {path}")
            elif file.startswith(f"src/{room}/") and name.endswith((".cpp", ".S")):
                if name not in lists["SOURCES"] and name not in sources:
                    tree.report(file, 1, "listed", f"not under SOURCES in {path}")
            elif file.startswith(f"tests/{room}/") and name.endswith("_test.cpp"):
                if file[len(f"tests/{room}/"):] not in lists["tests"]:
                    tree.report(file, 1, "listed", f"in no exeunt_test of {path}")


def tests_named_in(tree, path):
    """The test files that the file comment of a source names after `Tests:`."""
    comment = []
    for line in tree.lines(path):
        if not line.startswith("//") and line.strip():
            break
        comment.append(line.lstrip("/ "))
    text = " ".join(comment)
    _, found, after = text.partition("Tests:")
    return re.findall(r"[\w/]+_test\.(?:cpp|py)|[\w/]+\.md", after) if found else []


def check_mirrors(tree):
    """A source has a test of its stem, or names the tests that exercise it; and a test a source."""
    files = set(tree.files)
    claimed = set()
    stems = {}
    for path in tree.under("src", "include/exeunt", suffixes={".cpp", ".hpp"}):
        room = room_of(path)
        if room in tree.layers:
            stems.setdefault(room, set()).add(pathlib.PurePosixPath(path).stem)
    tests = {}
    for path in tree.under("tests", suffixes={".cpp"}):
        if path.endswith("_test.cpp"):
            tests.setdefault(room_of(path), []).append(path)

    def stem_of_test(path):
        return pathlib.PurePosixPath(path).stem[: -len("_test")]

    def has_own_test(room, stem):
        return any(stem_of_test(test) == stem or stem_of_test(test).startswith(stem + "_")
                   for test in tests.get(room, []))

    for path in tree.under("src", suffixes={".cpp", ".hpp"}):
        room = room_of(path)
        if room not in tree.layers:
            continue
        named = tests_named_in(tree, path)
        for name in named:
            test = name if name.startswith("tests/") else f"tests/{room}/{name}"
            if test not in files:
                tree.report(path, 1, "mirror", f"its comment names {name}, which is not there")
            claimed.add(test)
        if path.endswith(".cpp") and not named \
                and not has_own_test(room, pathlib.PurePosixPath(path).stem):
            tree.report(path, 1, "mirror", f"no tests/{room}/*_test.cpp of its stem, and no "
                        "`Tests:` in its file comment")
    for room, paths in tests.items():
        if room not in tree.layers:
            continue
        for path in paths:
            stem = stem_of_test(path)
            if path not in claimed and not any(
                    stem == one or stem.startswith(one + "_") for one in stems.get(room, ())):
                tree.report(path, 1, "mirror", f"no source of {room} has its stem or names it")


def check_spdx(tree):
    """The licence line comes first."""
    for path in tree.files:
        lines = tree.lines(path) if pathlib.PurePosixPath(path).suffix in CODE | {".py"} else None
        if lines is None:
            continue
        first = lines[1:2] if lines and lines[0].startswith("#!") else lines[:1]
        if not first or "SPDX-License-Identifier: Apache-2.0" not in first[0]:
            tree.report(path, 1, "spdx", "the first line is not the SPDX line")


def check_text(tree):
    """Width, white space, open work without an issue, words that mean nothing to a reader."""
    for path in tree.files:
        suffix = pathlib.PurePosixPath(path).suffix
        is_code = suffix in CODE | SCRIPTS | {".txt"} or path.startswith(("tools/", ".ci/"))
        if not is_code and suffix != ".md" or path.startswith("tests/http1/c"):
            continue
        for number, line in enumerate(tree.lines(path), 1):
            if is_code and len(line) > LINE_WIDTH:
                tree.report(path, number, "width", f"{len(line)} columns")
            if is_code and line != line.rstrip():
                tree.report(path, number, "space", "trailing white space")
            if "\t" in line and suffix in {".hpp", ".cpp"}:
                tree.report(path, number, "space", "a tab")
            if OPEN_WORK.search(line):
                tree.report(path, number, "open-work", "open work names its issue: (#12)")
            if PASSING_WORDS.search(line):
                tree.report(path, number, "passing-words", "means nothing to a reader")


def check_code(tree):
    """The house rules for code that runs on fibers, as far as a program can tell."""
    for path in tree.under("include/exeunt", "src"):
        is_public = path.startswith("include/")
        if path.endswith(".hpp") and not any(line.strip() == "#pragma once"
                                             for line in tree.lines(path)):
            tree.report(path, 1, "pragma-once", "a header without #pragma once")
        for number, _, name in tree.includes(path):
            if name in THREADING_HEADERS:
                tree.report(path, number, "atomic-door", f"<{name}> is for listed files only")
            if name in ("iostream", "random"):
                tree.report(path, number, "header", f"<{name}> has no place here")
            if is_public and OS_HEADER.search(name):
                tree.report(path, number, "os-header", f"<{name}> in a public header")
        for number, line in enumerate(tree.code(path), 1):
            if re.search(r"\bthread_local\b|\b__thread\b", line):
                tree.report(path, number, "thread-local", "only sched/current may have one")
            if CLOCK_READS.search(line):
                tree.report(path, number, "clock", "time comes from the runtime's clock")
            if RANDOM_READS.search(line):
                tree.report(path, number, "random", "chance comes from base/random")


def end_of_group(text, at):
    """Where the bracket that is the next one in `text` from `at` on is closed."""
    depth = 0
    for end in range(at, len(text)):
        if text[end] in "([{":
            depth += 1
        elif text[end] in ")]}":
            depth -= 1
            if depth == 0:
                return end
    return len(text)


def without_simulations(text):
    """`text`, code without strings, with blanks in place of what runs in simulations."""
    spans = []
    for match in SIMULATED_TEST.finditer(text):
        name_ends = end_of_group(text, match.end() - 1)
        spans.append((name_ends, end_of_group(text, name_ends + 1)))
    for match in SIMULATED_CALL.finditer(text):
        spans.append((match.end(), end_of_group(text, match.end())))
    for first, last in spans:
        text = text[:first] + re.sub(r"[^\n]", " ", text[first:last]) + text[last:]
    return text


def check_tests(tree):
    """Tests do not sleep to synchronise, but in simulations, where no time passes by it."""
    for path in tree.under("tests", suffixes={".cpp", ".hpp"}):
        if path.endswith("_stress_test.cpp"):
            continue
        code = without_simulations("\n".join(tree.code(path)))
        for number, line in enumerate(code.split("\n"), 1):
            if SLEEPS.search(line):
                tree.report(path, number, "sleep", "a test waits for a fact, not for a time; in a "
                            "simulation it may sleep")


def headers_reached(tree, path):
    """The headers from outside that a file includes, directly or by ours."""
    reached = set()
    outside = set()
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one in reached:
            continue
        reached.add(one)
        for _, _, name in tree.includes(one):
            ours = [place for place in (f"{top}/{name}" for top in ("include", "src", "tests"))
                    if place in tree.known]
            waiting += ours
            if not ours:
                outside.add(name)
    return outside


def check_standard_headers(tree):
    """A test includes what it uses also of what its compiler has precompiled."""
    header_of = {name: header for header, names in PRECOMPILED.items() for name in names.split()}
    for path in tree.under("tests", suffixes={".cpp", ".hpp"}):
        outside = headers_reached(tree, path)
        if "string" in outside:
            outside.add("string_view")
        for number, line in enumerate(tree.code(path), 1):
            used = [header_of.get(name) for name in re.findall(r"\bstd::(\w+)", line)]
            if re.match(r"(?:TEST(?:_[FP])?|TYPED_TEST)\(", line):
                used.append("gtest/gtest.h")
            for header in used:
                if header and header not in outside:
                    tree.report(path, number, "standard", f"uses <{header}>, does not include it")
                    outside.add(header)


def header_key(tree, path):
    """A digest of a public header and of all of ours that it includes."""
    reached = {}
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one in reached or one not in tree.files:
            continue
        reached[one] = (tree.root / one).read_bytes()
        waiting += [f"include/{name}" for _, quote, name in tree.includes(one) if quote == "<"]
    digest = hashlib.sha256()
    for one in sorted(reached):
        digest.update(one.encode() + b"\0" + reached[one])
    return digest.hexdigest()


def check_headers(tree, compiler):
    """Each public header compiles alone. What has passed is remembered in build/tidy."""
    memory = tree.root / "build" / "tidy" / "headers.json"
    try:
        passed = json.loads(memory.read_text())
    except (OSError, ValueError):
        passed = {}
    headers = {path: header_key(tree, path)
               for path in tree.under("include", suffixes={".hpp"})}

    def compile_alone(path):
        command = [compiler, "-std=c++23", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic",
                   "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-x", "c++",
                   f"-I{tree.root / 'include'}", "-"]
        source = f"#include <{path[len('include/'):]}>\n"
        return subprocess.run(command, input=source, text=True, capture_output=True, check=False)

    waiting = [path for path, key in headers.items() if passed.get(path) != key]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, done in zip(waiting, pool.map(compile_alone, waiting)):
            if done.returncode == 0:
                passed[path] = headers[path]
            else:
                first = (done.stderr.strip().splitlines() or ["failed"])
                errors = [line for line in first if "error" in line] or first
                tree.report(path, 1, "stands-alone", errors[0])
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(passed, indent=1, sort_keys=True))


def check_exceptions(tree):
    """No exception outlives its need."""
    for rule, path in tree.exceptions:
        if (rule, path) not in tree.used_exceptions and rule != "stands-alone":
            tree.report("tools/allowed.txt", 0, "exception", f"nothing needs `{rule} {path}`")


def check_all(tree, compiler=None):
    for check in (check_layer_list, check_includes, check_room_lists, check_mirrors, check_spdx,
                  check_text, check_code, check_tests, check_standard_headers):
        check(tree)
    if compiler:
        check_headers(tree, compiler)
    check_exceptions(tree)
    return tree.findings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--below", metavar="ROOM")
    options = parser.parse_args()
    tree = Tree(options.root)
    if options.below:
        if options.below not in tree.layers:
            parser.error(f"no room {options.below}; there are {' '.join(tree.layers)}")
        print(*[room for room in tree.below(options.below)
                if f"src/{room}/CMakeLists.txt" in tree.files])
        return 0
    findings = check_all(tree, None if options.no_compile else options.compiler)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(tree.files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
