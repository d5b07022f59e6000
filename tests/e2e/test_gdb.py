# SPDX-License-Identifier: Apache-2.0
"""The commands of tools/gdb/exeunt.py, on a program whose fibers are stuck in all sorts of ways."""

import ast
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

from service_process import BINARY, PATIENCE, REPOSITORY

STUCK = os.environ.get("EXEUNT_STUCK") or os.path.join(os.path.dirname(BINARY), "stuck")
SOURCE = os.path.join(REPOSITORY, "examples", "stuck.cpp")
TOOL = os.path.join(REPOSITORY, "tools", "gdb", "exeunt.py")
SESSION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gdb_session.py")

# Whether the program was built with -g: then its types, and so its fibers, have to be found.
HAS_TYPES = os.environ.get("EXEUNT_DEBUG_INFO", "yes") == "yes"

ROW = re.compile(r"^([* ]) (\d+) +(\w+) +(\w+) +(.*?) *(\S+):(\d+)$", re.MULTILINE)
FRAME = re.compile(r"^#(\d+) +(.*)$", re.MULTILINE)

FORBIDDEN = "ptrace: Operation not permitted"  # what gdb says where it is so

WAITS = {"receiver": "channel receive", "sleeper": "sleep", "locker": "mutex",
         "chooser": "select", "nested": "channel receive"}
NESTED = ("innermost", "middle", "outermost")

# What both a live process and a core file are asked.
QUESTIONS = [
    "info fibers", "exeunt fibers", "info fibers nested", "exeunt bt all",
    *[f"exeunt bt {{{name}}}" for name in (*WAITS, "main", "spinner", "turn")],
    "exeunt bt {nested} 2", "thread apply all bt",
    "exeunt fiber 999999", "exeunt bt nested", "exeunt bt", "exeunt fiber", "info threads",
]
# On the way into a fiber and back; the order counts.
VISIT = [
    "exeunt thread", "bt 1", "exeunt fiber {nested}", "exeunt fiber", "bt",
    "frame {frame innermost}", "frame", "info locals", "up", "frame", "info locals",
    "exeunt bt {sleeper}", "frame", "info fibers nested", "exeunt thread", "bt 1", "exeunt fiber",
]
# Only in a live process: its fibers are no place to stay when it goes on.
STEP = [
    "set scheduler-locking on", "exeunt fiber {spinner}", "bt 1", "exeunt fiber {nested}", "stepi",
    "exeunt fiber", "bt -1",
]


def gdb(commands, *arguments):
    """{command: answer} of a gdb with the tool; of one that comes twice, the last."""
    with tempfile.TemporaryDirectory() as directory:
        session = os.path.join(directory, "session.json")
        answers = os.path.join(directory, "answers.json")
        with open(session, "w", encoding="utf-8") as file:
            json.dump({"commands": commands, "answers": answers}, file)
        done = subprocess.run(
            ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off",
             "-ex", "set width 0", "-ex", "set height 0", *arguments, "-x", SESSION],
            env={**os.environ, "EXEUNT_GDB_SESSION": session, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=6 * PATIENCE)
        if not os.path.exists(answers):
            raise AssertionError(f"gdb has no answers: {done.stdout}\n{done.stderr}")
        with open(answers, encoding="utf-8") as file:
            return list(zip(commands, json.load(file))), done.stdout + done.stderr


def start_stuck(**settings):
    """The program, once all of its fibers are where they are to be."""
    process = subprocess.Popen([STUCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               **settings)
    watchdog = threading.Timer(2 * PATIENCE, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    if not line.startswith("ready"):
        process.kill()
        raise AssertionError(f"the program did not get ready, but said: {line!r}")
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


class Sessions:
    """A live process and core files of it, each looked at once, for all tests."""

    opened = False
    live = core = kernel_core = None
    why_not = None  # why there is no live process to be looked at

    @classmethod
    def open(cls):
        if not cls.opened:
            cls.opened = True
            directory = tempfile.TemporaryDirectory()
            unittest.addModuleCleanup(directory.cleanup)
            cls.look_at_live(os.path.join(directory.name, "saved"))
            cls.look_at_kernel_core(directory.name)

    @classmethod
    def look_at_live(cls, core_file):
        commands = [f"source {TOOL}", *QUESTIONS, f"exeunt core {core_file}", *VISIT, *STEP]
        process = start_stuck()
        try:
            live, said = gdb(commands, "-p", str(process.pid))
        finally:
            end(process)
        if FORBIDDEN in said:
            # Then at least a child of gdb's own may be looked at.
            start = ["set confirm off", "tbreak wait_for_enter", "run"]
            live, said = gdb([*start, *commands, "kill"], STUCK)
        if FORBIDDEN in said:
            cls.why_not = "gdb may not look at processes here"
            return
        cls.live = live
        if os.path.exists(core_file):
            cls.core, _ = gdb([f"source {TOOL}", *QUESTIONS, *VISIT], STUCK, core_file)

    @classmethod
    def look_at_kernel_core(cls, directory):
        """Where the kernel keeps cores in the directory of the process, under whatever name."""
        with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
            if file.read(1) in ("|", "/", "\n"):
                return
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        if limit != resource.RLIM_INFINITY:
            return
        process = start_stuck(cwd=directory, preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CORE, (limit, limit)))
        process.send_signal(signal.SIGABRT)
        process.wait()
        end(process)
        for name in os.listdir(directory):
            if name != "saved":
                cls.kernel_core, _ = gdb([f"source {TOOL}", *QUESTIONS, *VISIT], STUCK,
                                         os.path.join(directory, name))


def setUpModule():
    if shutil.which("gdb") is None:
        raise unittest.SkipTest("there is no gdb; `tools/setup test` installs it")


class Answers(unittest.TestCase):
    """Reads what gdb says."""

    def rows(self, listing):
        """{name: (mark, id, state, the rest, line)} of a list of fibers; of equal names, a list."""
        rows = {}
        for mark, number, name, state, rest, _, line in ROW.findall(listing):
            rows.setdefault(name, []).append((mark, int(number), state, rest, int(line)))
        return rows

    def functions(self, stack):
        """The functions of a back-trace, with no word of doubt about its end."""
        self.assertNotIn("Backtrace stopped", stack)
        self.assertNotIn("corrupt", stack)
        self.assertNotIn("Python Exception", stack)
        frames = FRAME.findall(stack)
        self.assertTrue(frames, stack)
        numbers = [int(number) for number, _ in frames]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))), stack)
        return [text for _, text in frames]

    def assert_in_order(self, words, lines):
        found = [next((i for i, line in enumerate(lines) if word in line), None) for word in words]
        self.assertNotIn(None, found, (words, lines))
        self.assertEqual(found, sorted(found), (words, lines))


@unittest.skipUnless(HAS_TYPES, "the program was built without -g")
class Looks:
    """What is asked of a live process and of a core file alike."""

    def setUp(self):
        Sessions.open()

    def answers(self):
        raise NotImplementedError

    def answer(self, command):
        return [answer for asked, answer in self.answers() if asked == command][-1]

    def visit(self):
        """The answers from the first command of VISIT on."""
        commands = [asked for asked, _ in self.answers()]
        first = commands.index(VISIT[0])
        return [answer for _, answer in self.answers()[first:first + len(VISIT)]]

    def test_every_fiber_is_listed_once(self):
        listing = self.answer("info fibers")
        rows = self.rows(listing)
        self.assertEqual({name: len(found) for name, found in rows.items()},
                         {"main": 1, "spinner": 1, "turn": 3, **dict.fromkeys(WAITS, 1)}, listing)
        self.assertEqual(list(self.rows(self.answer("exeunt fibers"))), list(rows))
        numbers = [number for found in rows.values() for _, number, *_ in found]
        self.assertEqual(len(set(numbers)), len(numbers), listing)
        self.assertEqual(list(self.rows(self.answer("info fibers nested"))), ["nested"])

    def test_states(self):
        listing = self.answer("info fibers")
        rows = self.rows(listing)
        for name, reason in WAITS.items():
            _, _, state, rest, _ = rows[name][0]
            self.assertEqual(state, "parked", listing)
            self.assertRegex(rest, rf"^{reason}( at 0x\w+)? \((at least )?\d+\.\d s\)$", listing)
        # Who waits for the same channel is seen by its address.
        channels = {name: re.search(r"0x\w+", rows[name][0][3]) for name in ("receiver", "nested")}
        self.assertEqual(channels["receiver"][0], channels["nested"][0], listing)
        _, _, state, rest, _ = rows["spinner"][0]
        self.assertEqual(state, "running", listing)
        self.assertRegex(rest, r"^worker \d+, thread \d+ \(LWP \d+\)$", listing)
        states = [state for _, _, state, _, _ in rows["turn"]]
        self.assertLessEqual(set(states), {"ready", "running"}, listing)
        self.assertIn("ready", states, listing)

    def test_origins(self):
        with open(SOURCE, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for name, found in self.rows(self.answer("info fibers")).items():
            words = "ex::run(" if name == "main" else f'.name = "{name}"'
            self.assertEqual({words in lines[line - 1] for *_, line in found}, {True}, name)

    def test_stacks_of_parked_fibers(self):
        for name, word in (("receiver", "recv"), ("sleeper", "sleep"), ("locker", "lock"),
                           ("chooser", "select"), ("nested", "recv")):
            stack = self.answer(f"exeunt bt {{{name}}}")
            self.assertRegex(stack, rf'^fiber \d+ "{name}", parked, {WAITS[name]}, started at ')
            functions = self.functions(stack)
            self.assert_in_order(("park", word, "fiber_entry", "exeunt_entry_function"), functions)
            self.assertIn("exeunt_entry_function", functions[-1], stack)
        nested = self.functions(self.answer("exeunt bt {nested}"))
        self.assert_in_order(("recv", *NESTED, "exeunt_entry_function"), nested)

    def test_stacks_of_running_and_ready_fibers(self):
        spinner = self.functions(self.answer("exeunt bt {spinner}"))
        self.assert_in_order(("spin", "exeunt_entry_function"), spinner)
        self.assertIn("exeunt_entry_function", spinner[-1])
        self.assertNotIn("switch_to", spinner[0])
        turn = self.functions(self.answer("exeunt bt {turn}"))
        self.assertIn("exeunt_entry_function", turn[-1])
        main = self.functions(self.answer("exeunt bt {main}"))
        self.assert_in_order(("get_stuck", "exeunt_entry_function"), main)

    def test_all_stacks(self):
        stacks = self.answer("exeunt bt all")
        titles = re.findall(r'^fiber (\d+) "\w+", (\w+)', stacks, re.MULTILINE)
        self.assertEqual(len(titles), 10, stacks)
        self.assertEqual(stacks.count("exeunt_entry_function"), 10, stacks)
        self.assertNotIn("Backtrace stopped", stacks.replace("(More stack frames follow", ""))

    def test_options_reach_backtrace(self):
        self.assertEqual(len(FRAME.findall(self.answer("exeunt bt {nested} 2"))), 2)

    def test_threads_are_walked_through_their_fibers(self):
        """Plain gdb, with nothing of ours selected: the walk ends where the fiber began."""
        stacks = self.answer("thread apply all bt")
        self.assertNotIn("Backtrace stopped", stacks)
        self.assertNotIn("corrupt", stacks)
        of_threads = re.split(r"^Thread \d+", stacks, flags=re.MULTILINE)
        spinning = [self.functions(stack) for stack in of_threads if "spin(" in stack]
        self.assertEqual(len(spinning), 1, stacks)
        self.assertIn("exeunt_entry_function", spinning[0][-1])

    def test_a_fiber_is_selected_and_left_again(self):
        (_, before, entered, which, stack, _, frame, own, _, outer_frame, outer, _, after_other,
         listed, _, after, none) = self.visit()
        self.assertRegex(entered, r'^\[Looking at fiber \d+ "nested"\]\n#\d+ ')
        self.assertRegex(which, r'^fiber \d+ "nested"$')
        functions = self.functions(stack)
        self.assert_in_order(("recv", *NESTED, "exeunt_entry_function"), functions)
        self.assertNotIn(functions[0], before)
        self.assertIn("innermost", frame)
        if "No symbol table info" not in own and "No locals" not in own:
            self.assertIn("doubled = 42", own)
            self.assertIn("increased = 21", outer)
        # A look at another one leaves the selection as it was.
        self.assertIn("middle", outer_frame)
        self.assertIn("middle", after_other)
        self.assertEqual([row[0] for row in self.rows(listed)["nested"]], ["*"], listed)
        self.assertEqual(before, after)
        self.assertIn("not at a fiber", none)

    def test_mistakes(self):
        self.assertEqual(self.answer("exeunt fiber 999999"),
                         "error: There is no fiber 999999; see `info fibers`.")
        self.assertIn("`nested` is not", self.answer("exeunt bt nested"))
        self.assertIn("Usage: ", self.answer("exeunt bt"))


class Live(Looks, Answers):
    """A process to which gdb attaches, or, where it may not, one that gdb starts."""

    def answers(self):
        return Sessions.live or self.skipTest(Sessions.why_not)

    def test_the_selection_ends_when_the_program_goes_on(self):
        self.assertIn("spin", self.answer(STEP[2]))
        self.assertNotIn("error", self.answer("stepi"))
        self.assertIn("not at a fiber", self.answer("exeunt fiber"))
        self.assertIn("exeunt_entry_function", self.answer("bt -1"))


class SavedCore(Looks, Answers):
    """A core file by `exeunt core`."""

    def answers(self):
        self.assertIsNotNone(Sessions.core or Sessions.why_not, "no core file was saved")
        return Sessions.core or self.skipTest(Sessions.why_not)

    def test_the_stacks_were_added(self):
        self.answers()
        saved = next(answer for asked, answer in Sessions.live if "exeunt core" in asked)
        self.assertIn("Added the stacks of 10 fibers", saved)


class KernelCore(Looks, Answers):
    """A core file by the kernel, of a process that was killed."""

    def answers(self):
        return Sessions.kernel_core or self.skipTest("the kernel leaves no core file here")


class WithoutFibers(unittest.TestCase):
    """Where there is nothing to be seen, the reason is said."""

    def say(self, *arguments, start=()):
        answers, said = gdb([f"source {TOOL}", *start, "info fibers"], *arguments)
        if FORBIDDEN in said:
            self.skipTest("gdb may not look at processes here")
        return answers[-1][1]

    def stripped(self, option):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "stuck")
        subprocess.run(["objcopy", option, STUCK, path], check=True)
        return path

    def test_no_process(self):
        self.assertIn("There is no process", self.say(STUCK))

    def test_another_program(self):
        self.assertIn("There is no Exeunt", self.say("/bin/true", start=["starti"]))

    def test_before_the_first_runtime(self):
        self.assertIn("No runtime" if HAS_TYPES else "-g", self.say(STUCK, start=["starti"]))

    def test_no_debug_information(self):
        program = self.stripped("--strip-debug")
        self.assertIn("compile its library with -g", self.say(program, start=["starti"]))

    def test_no_symbols(self):
        program = self.stripped("--strip-all")
        self.assertIn("symbols are stripped", self.say(program, start=["starti"]))


class Sources(unittest.TestCase):
    """What the tool repeats of the library's sources is as it is there."""

    def read(self, *path):
        with open(os.path.join(REPOSITORY, *path), encoding="utf-8") as file:
            return file.read()

    def constant(self, name):
        for node in ast.parse(self.read("tools", "gdb", "exeunt.py")).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == name:
                return ast.literal_eval(node.value)
        self.fail(name)

    def test_words(self):
        pairs = re.findall(r'case wait_reason::(\w+):\s*return "(.*)";',
                           self.read("src", "sched", "park.cpp"))
        self.assertEqual(self.constant("WORDS"), dict(pairs))

    def test_size_of_slabs(self):
        size = re.search(r"slab_fibers = (\d+);", self.read("src", "sched", "fiber.hpp"))
        self.assertEqual(self.constant("SLAB_FIBERS"), int(size.group(1)))


if __name__ == "__main__":
    unittest.main()
