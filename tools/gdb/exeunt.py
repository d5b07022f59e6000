# SPDX-License-Identifier: Apache-2.0
"""Commands for gdb that know Exeunt's fibers, in a live process and in a core file.

    (gdb) source tools/gdb/exeunt.py
    (gdb) info fibers            who runs where, and who waits for what; WORD: only lines with it
    (gdb) exeunt bt 12           the stack of fiber 12; what follows the number is given to `bt`
    (gdb) exeunt bt all          those of all fibers
    (gdb) exeunt fiber 12        from here on bt, up, frame, info locals, print are about fiber 12,
    (gdb) exeunt thread          and about threads again, as when the program goes on
    (gdb) exeunt core FILE       as generate-core-file, but with the fibers' stacks

How a fiber that is on no thread is shown: in a core file nothing can be changed, and in a live
process nothing is. An unwinder claims the frame in which the selected thread is, and says that its
caller is where the fiber was left. That frame, the host, is hidden; the fiber's frames follow it,
and so count from 1, or higher if functions are inlined in the host.

Needed: gdb 12 with Python, and Exeunt's types in the debug information (-g) of the program or of
its library. Tests: tests/e2e/test_gdb.py.
"""

import contextlib
import struct
import time

import gdb
import gdb.unwinder

RUNTIMES = "exeunt::sched::(anonymous namespace)::runtimes"  # src/sched/runtime.cpp
SLAB_FIBERS = 64                                             # fiber_slabs, src/sched/fiber.hpp

# The registers that a switch saves (src/arch/switch.hpp): stack pointer, frame pointer, place.
REGISTERS = {"i386:x86-64": ("rsp", "rbp", "rip"), "aarch64": ("sp", "x29", "pc")}

# A wait_reason in the words of to_string() in src/sched/park.cpp.
WORDS = {
    "none": "nothing",
    "chan_send": "channel send",
    "chan_recv": "channel receive",
    "chan_nil": "nil channel (for good)",
    "select": "select",
    "select_none": "select without cases (for good)",
    "mutex": "mutex",
    "shared_mutex": "shared mutex",
    "wait_group": "wait group",
    "once": "once",
    "condition": "condition variable",
    "semaphore": "semaphore",
    "singleflight": "singleflight",
    "queue": "queue",
    "rate": "rate limiter",
    "sleep": "sleep",
    "context": "context",
    "join": "join",
    "errgroup": "errgroup",
    "io_read": "network read",
    "io_write": "network write",
    "io_accept": "accept",
    "io_connect": "connect",
    "blocking": "blocking call",
    "drain": "drain",
    "simulation": "the others of a simulation",
}

NO_PROCESS = "There is no process and no core file."
NO_EXEUNT = "There is no Exeunt in this process, or its symbols are stripped."
NO_TYPES = ("Exeunt is in this process, but the debug information does not have its types: "
            "compile its library with -g.")
NO_RUNTIME = "No runtime has been started, or all have been stopped."


# ---- what lies in the program's memory

def content(value, element):
    """What an object that is no more than one `element` holds: an atomic, a duration, a pointer of
    any kind. The names of the members in it are the standard library's own affair.
    """
    return value.address.cast(element.pointer()).dereference()


def loaded(atomic):
    return content(atomic, atomic.type.strip_typedefs().template_argument(0))


def nanoseconds(time_point):
    return int(content(time_point, gdb.lookup_type("long")))


def pointers(vector, element):
    """The elements of a std::vector of pointers; it begins with its begin and its end."""
    ends = vector.address.cast(element.pointer().pointer().pointer())
    return [ends[0][i] for i in range(int(ends[1] - ends[0]))]


def enumerators(name):
    """{value: name} of an enum class."""
    return {field.enumval: field.name.rpartition("::")[2]
            for field in gdb.lookup_type(name).fields()}


class Layout:
    """Where a control block has what. There may be very many of them: they are read as bytes."""

    def __init__(self):
        self.block = gdb.lookup_type("exeunt::sched::fiber")
        self.states = enumerators("exeunt::sched::fiber_state")
        self.seats = enumerators("exeunt::sched::fiber_seat")
        self.reasons = enumerators("exeunt::detail::wait_reason")
        self.at = {path: self.offset(path) for path in (
            "id", "name", "state", "on_stack", "waits_for", "waits_on", "since", "started_at",
            "context.sp", "context.fp", "context.pc", "stack.base", "stack.size")}
        self.places = {}  # {what a source_location points at: file and line}

    def offset(self, path):
        found, inside = 0, self.block
        for name in path.split("."):
            field = next(field for field in inside.fields() if field.name == name)
            found += field.bitpos // 8
            inside = field.type.strip_typedefs()
        return found

    def place(self, address):
        """What a source_location says. It points at the names of the file and of the function, and
        the line, constants of a program or library that may not be at hand with its core file.
        """
        if address not in self.places:
            self.places[address] = "?"
            with contextlib.suppress(gdb.MemoryError):
                entry = gdb.Value(address).cast(gdb.lookup_type("long").pointer())
                file = entry[0].cast(gdb.lookup_type("char").pointer()).string()
                self.places[address] = f"{file}:{int(entry[2]) & 0xffffffff}"
        return self.places[address]


class Fiber:
    """A control block as it is now, and the thread that is on its stack, if one is."""

    def __init__(self, runtime, data, start, address):
        layout = runtime.layout

        def word(path):
            return struct.unpack_from("=Q", data, start + layout.at[path])[0]

        def one_of(names, path):
            value = data[start + layout.at[path]][0]
            return names.get(value, str(value))

        self.core = runtime
        self.address = address
        self.id = word("id")
        name = start + layout.at["name"]
        self.name = bytes(data[name:name + 32]).partition(b"\0")[0].decode("utf-8", "replace")
        self.context = tuple(word(f"context.{register}") for register in ("sp", "fp", "pc"))
        self.stack = range(word("stack.base"), word("stack.base") + word("stack.size"))
        state = one_of(layout.states, "state")
        seat = one_of(layout.seats, "on_stack")
        self.has_stack = seat != "none"
        # The seat is taken from before a thread comes until after it has left: if none is there,
        # the context counts. One that has just parked may have its thread still.
        self.thread = runtime.threads.on(self.stack) if seat == "taken" else None
        self.state = "running" if state == "ready" and self.thread is not None else state
        reason = one_of(layout.reasons, "waits_for")
        self.waits_for = WORDS.get(reason, reason) if state == "parked" else None
        self.waits_on = word("waits_on")
        self.since = word("since")
        self.started_at = layout.place(word("started_at"))

    def __str__(self):
        return f'fiber {self.id} "{self.name}"' if self.name else f"fiber {self.id}"


class Runtime:
    """A runtime_core: its workers, and its fibers as far as they are asked for."""

    def __init__(self, core, threads):
        self.core = core
        self.threads = threads
        self.layout = Layout()
        worker = gdb.lookup_type("exeunt::sched::worker").pointer()
        first = content(core["workers_"]["slots_"], worker.pointer())
        count = int(loaded(core["workers_"]["count_"]))
        self.workers = [first[i].dereference() for i in range(count)]

    def blocks(self):
        """(id, bytes, where in them, address) of each control block in use."""
        layout = self.layout
        free = next(value for value, name in layout.states.items() if name == "free")
        size = layout.block.sizeof
        memory = gdb.selected_inferior()
        for slab in pointers(self.core["slabs_"]["slabs_"], layout.block):
            data = memory.read_memory(int(slab), size * SLAB_FIBERS)
            for start in range(0, size * SLAB_FIBERS, size):
                if data[start + layout.at["state"]][0] != free:
                    number, = struct.unpack_from("=Q", data, start + layout.at["id"])
                    yield number, data, start, int(slab) + start

    def fiber(self, wanted):
        """The fiber with that id, or None."""
        return next((Fiber(self, *block) for number, *block in self.blocks() if number == wanted),
                    None)

    def fibers(self):
        found = [Fiber(self, *block) for _, *block in self.blocks()]
        return sorted(found, key=lambda fiber: fiber.id)

    def worker_of(self, fiber):
        """The index of the worker that runs it, or None."""
        return next((int(worker["index_"]) for worker in self.workers
                     if int(worker["running_"]) == fiber.address), None)

    def time(self, fibers):
        """(the time in ns by the runtime's clock, whether that is exact)."""
        connection = gdb.selected_inferior().connection
        is_live = connection is not None and connection.type == "native"
        if is_live and int(self.core["seam_"]["clock"]) == 0:
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC), True
        seen = [fiber.since for fiber in fibers if fiber.state == "parked"]
        seen += [nanoseconds(worker["last_look_"]) for worker in self.workers]
        return max(seen, default=0), False


def has_symbol(name):
    try:
        gdb.parse_and_eval(f"&'{name}'")
    except gdb.error:
        return False
    return True


@contextlib.contextmanager
def clear_errors():
    """Says what is wrong with the program, and not where this script found it."""
    try:
        yield
    except gdb.error as failure:
        raise gdb.GdbError(f"The fibers cannot be read: {failure}") from None


def check_types():
    for name in ("runtime_core", "worker", "fiber"):
        try:
            is_known = len(gdb.lookup_type(f"exeunt::sched::{name}").fields()) > 0
        except gdb.error:
            is_known = False
        if not is_known:  # Or no more than declared.
            raise gdb.GdbError(NO_TYPES)


def all_runtimes():
    if gdb.selected_inferior().pid == 0:
        raise gdb.GdbError(NO_PROCESS)
    lists = gdb.lookup_static_symbols(RUNTIMES)
    if not lists:
        raise gdb.GdbError(NO_TYPES if has_symbol(RUNTIMES) else NO_EXEUNT)
    check_types()
    found = []
    threads = Threads()
    with clear_errors():
        core = gdb.lookup_type("exeunt::sched::runtime_core")
        for symbol in lists:  # Several libraries may each have an Exeunt of their own.
            vector = symbol.value()
            if int(vector) != 0:
                found += [Runtime(one.dereference(), threads)
                          for one in pointers(vector.dereference(), core)]
    if not found:
        raise gdb.GdbError(NO_RUNTIME)
    return found


def fiber_by_id(text):
    if not text.isdecimal():
        raise gdb.GdbError(f"A fiber's id is a number, which `{text}` is not.")
    for runtime in all_runtimes():
        with clear_errors():
            fiber = runtime.fiber(int(text))
        if fiber is not None:
            return fiber
    raise gdb.GdbError(f"There is no fiber {text}; see `info fibers`.")


# ---- a fiber in the place of a thread's stack

def register_names():
    name = gdb.selected_inferior().architecture().name()
    if name not in REGISTERS:
        raise gdb.GdbError(f"Exeunt does not know the architecture {name}.")
    return REGISTERS[name]


class FrameId:
    """What tells a frame from others, for gdb."""

    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class HostUnwinder(gdb.unwinder.Unwinder):
    """Says of the frame in which one thread is, the host, that a fiber called it."""

    def __init__(self):
        super().__init__("exeunt fiber")
        self.enabled = False
        self.fiber = None
        self.thread = None  # whose frame is the host
        self.place = None   # the host's stack pointer and pc, by which it is known
        self.level = None   # the host's number, once gdb has asked: it counts inlined frames, too

    def show(self, fiber):
        """From now on the selected thread's stack is the fiber's."""
        self.hide()
        names = register_names()
        host = gdb.newest_frame()
        self.place = tuple(int(host.read_register(names[i])) for i in (0, 2))
        self.thread = gdb.selected_thread().ptid
        self.fiber = fiber
        self.level = None
        self.enabled = True
        gdb.invalidate_cached_frames()

    def hide(self):
        if self.enabled:
            self.enabled = False
            self.fiber = None
            gdb.invalidate_cached_frames()

    def is_here(self):
        """Whether the selected thread is the one whose frame is the host."""
        thread = gdb.selected_thread()
        return self.enabled and thread is not None and thread.ptid == self.thread

    def is_host(self, frame):
        return self.level is None or frame.level() <= self.level

    def __call__(self, pending):
        if not self.is_here():
            return None
        names = register_names()
        if self.place != tuple(int(pending.read_register(names[i])) for i in (0, 2)):
            return None
        self.level = pending.level()
        values = [gdb.Value(word).cast(gdb.lookup_type("unsigned long"))
                  for word in self.fiber.context]
        # Where the fiber was left is the lowest address that the host may claim: gdb takes a caller
        # that lies below for a broken stack.
        unwound = pending.create_unwind_info(FrameId(values[0], pending.read_register(names[2])))
        for name, value in zip(names, values):
            unwound.add_saved_register(name, value)
        return unwound


class HostFilter:
    """Leaves the host out of back-traces."""

    name = "exeunt fiber"
    priority = 1000
    enabled = True

    def filter(self, frames):
        if not UNWINDER.is_here():
            return frames
        return (frame for frame in frames if not UNWINDER.is_host(frame.inferior_frame()))


class Selection:
    """What is selected: thread, frame, and the fiber in that thread's place, if one is."""

    def __init__(self):
        self.thread = gdb.selected_thread()
        self.fiber = UNWINDER.fiber
        self.host = UNWINDER.thread
        self.level = 0
        with contextlib.suppress(gdb.error):
            self.level = gdb.selected_frame().level()

    def restore(self):
        if self.fiber is None:
            UNWINDER.hide()
        elif UNWINDER.fiber is not self.fiber:
            for thread in gdb.selected_inferior().threads():
                if thread.ptid == self.host:
                    thread.switch()
                    UNWINDER.show(self.fiber)
        if self.thread is None or not self.thread.is_valid():
            return
        self.thread.switch()
        frame = gdb.newest_frame()
        while frame is not None and frame.level() < self.level:
            frame = frame.older()
        if frame is not None:
            frame.select()


@contextlib.contextmanager
def selection_kept():
    kept = Selection()
    try:
        yield
    finally:
        kept.restore()


class Threads:
    """On which stacks the threads are. Of the kernel's numbers for them nothing is asked: gdb sees
    others than a process in a container does.
    """

    def __init__(self):
        self.newest = self.look(lambda: [gdb.newest_frame()])
        self.interrupted = None

    def on(self, stack):
        """The thread that is on this stack, or was when a signal came, or None."""
        for thread, places in self.newest:
            if any(place in stack for place in places):
                return thread
        if self.interrupted is None:
            self.interrupted = self.look(frames_below_handlers)
        return next((thread for thread, places in self.interrupted
                     if any(place in stack for place in places)), None)

    def look(self, frames):
        """[(thread, the stack pointers of these frames of it)]."""
        found = []
        with selection_kept():
            UNWINDER.hide()
            name = register_names()[0]
            for thread in gdb.selected_inferior().threads():
                with contextlib.suppress(gdb.error):
                    thread.switch()
                    found.append((thread, [int(frame.read_register(name)) for frame in frames()]))
        return found


def frames_below_handlers():
    """Where the selected thread was when signals came: handlers have a stack of their own."""
    found = []
    frame = gdb.newest_frame()
    for _ in range(100):
        if frame is None:
            break
        is_handled = frame.type() == gdb.SIGTRAMP_FRAME
        frame = frame.older()
        if is_handled and frame is not None:
            found.append(frame)
    return found


def enter(fiber):
    """Makes the fiber's stack the one that gdb looks at, and selects its newest frame."""
    if not fiber.has_stack:
        raise gdb.GdbError(f"{fiber} has not run yet; it was started at {fiber.started_at}.")
    if fiber.thread is not None:
        UNWINDER.hide()
        fiber.thread.switch()
        gdb.newest_frame().select()
        return
    if gdb.selected_thread() is None:
        raise gdb.GdbError("No thread is selected.")
    UNWINDER.show(fiber)
    frame = gdb.newest_frame()
    while frame is not None and UNWINDER.is_host(frame):
        frame = frame.older()
    if frame is None:
        UNWINDER.hide()
        raise gdb.GdbError(f"The stack of {fiber} cannot be read.")
    frame.select()


def forget(_event):
    UNWINDER.hide()


UNWINDER = HostUnwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)
gdb.frame_filters[HostFilter.name] = HostFilter()
gdb.events.cont.connect(forget)
gdb.events.exited.connect(forget)


# ---- stacks in core files

# gdb writes a mapping until the first byte that it cannot read. Fibers' stacks share mappings with
# the guards between them, and a guard made by MADV_GUARD_INSTALL is such a byte. When the kernel
# writes the core file itself it leaves out the page and goes on.

PT_LOAD = 1
RED_ZONE = 128  # below a stack pointer may be used, too


def core_segments(file):
    """[(range of addresses, where it begins in the file)] of a core file of 64 bits."""
    file.seek(0)
    header = file.read(64)
    table, = struct.unpack_from("=Q", header, 32)
    size, count = struct.unpack_from("=HH", header, 54)
    file.seek(table)
    entries = file.read(size * count)
    found = []
    for at in range(0, len(entries), size):
        kind, _, offset, address, _, bytes_in_file = struct.unpack_from("=IIQQQQ", entries, at)
        if kind == PT_LOAD and bytes_in_file > 0:
            found.append((range(address, address + bytes_in_file), offset))
    return found


def add_stacks(path):
    """Writes all fibers' stacks into the core file. Returns: of how many fibers."""
    page = 4096
    added = 0
    with open(path, "r+b") as file:
        segments = core_segments(file)
        for runtime in all_runtimes():
            for fiber in (fiber for fiber in runtime.fibers() if fiber.has_stack):
                low = fiber.stack.start if fiber.thread else fiber.context[0] - RED_ZONE
                place = next((segment for segment in segments if low in segment[0]), None)
                if place is None:
                    continue
                added += 1
                addresses, offset = place
                for at in range(low - low % page, min(fiber.stack.stop, addresses.stop), page):
                    with contextlib.suppress(gdb.MemoryError):
                        data = gdb.selected_inferior().read_memory(at, page)
                        file.seek(offset + at - addresses.start)
                        file.write(data)
    return added


# ---- the commands

def describe_thread(fiber):
    """Who runs it: `worker 1, thread 3 (LWP 4711)`."""
    worker = fiber.core.worker_of(fiber)
    words = [] if worker is None else [f"worker {worker}"]
    words.append(f"thread {fiber.thread.num} (LWP {fiber.thread.ptid[1]})")
    return ", ".join(words)


def describe(fiber, now, exact):
    """What it waits for and since when, or who runs it."""
    if fiber.state == "parked":
        seconds = max(0, now - fiber.since) / 1e9
        what = f" at {fiber.waits_on:#x}" if fiber.waits_on else ""
        return f"{fiber.waits_for}{what} ({'' if exact else 'at least '}{seconds:.1f} s)"
    if fiber.state == "running":
        return describe_thread(fiber)
    return "" if fiber.has_stack else "has not run yet"


def is_selected(fiber):
    if UNWINDER.is_here():
        return UNWINDER.fiber.address == fiber.address
    thread = gdb.selected_thread()
    return None not in (thread, fiber.thread) and thread.ptid == fiber.thread.ptid


def list_fibers(word):
    rows = []
    runtimes = all_runtimes()
    for number, runtime in enumerate(runtimes, 1):
        with clear_errors():
            fibers = runtime.fibers()
            now, exact = runtime.time(fibers)
            if len(runtimes) > 1:
                rows.append(f"runtime {number}:")
            for fiber in fibers:
                rows.append(("*" if is_selected(fiber) else " ", str(fiber.id), fiber.name,
                             fiber.state, describe(fiber, now, exact), fiber.started_at))
    cells = [row for row in rows if not isinstance(row, str)]
    head = (" ", "Id", "Name", "State", "Waits for, or runs on", "Started at")
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head) - 1)]

    def line(row):
        padded = [cell.ljust(width) for cell, width in zip(row, widths)]
        return " ".join(padded[:2]) + "  " + "  ".join([*padded[2:], row[-1]])

    print(line(head))
    for row in rows:
        text = row if isinstance(row, str) else line(row)
        if isinstance(row, str) or word in text:
            print(text)


def print_stack(fiber, options):
    with clear_errors():
        where = fiber.waits_for or (describe_thread(fiber) if fiber.thread else "")
    print(", ".join(filter(None, (str(fiber), fiber.state, where,
                                  f"started at {fiber.started_at}"))))
    with selection_kept():
        enter(fiber)
        gdb.execute(f"backtrace {options}")


class Exeunt(gdb.Command):
    """Look at the fibers of a program that uses Exeunt."""

    def __init__(self):
        super().__init__("exeunt", gdb.COMMAND_STACK, gdb.COMPLETE_NONE, prefix=True)


class InfoFibers(gdb.Command):
    """List the fibers: who runs where, who waits for what and since when, and the lines that
started them. With an argument, only those in whose line it occurs.

Usage: info fibers [WORD]

In a core file the time is counted to the last one that its scheduler has seen."""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_STATUS, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        list_fibers(argument.strip())


class Backtrace(gdb.Command):
    """Print the stack of a fiber, or of all of them.

Usage: exeunt bt ID|all [OPTIONS OF backtrace]"""

    def __init__(self):
        super().__init__("exeunt bt", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        which, _, options = argument.strip().partition(" ")
        if not which:
            raise gdb.GdbError("Usage: exeunt bt ID|all [OPTIONS OF backtrace]")
        if which != "all":
            print_stack(fiber_by_id(which), options)
            return
        for runtime in all_runtimes():
            for fiber in runtime.fibers():
                try:
                    print_stack(fiber, options)
                except gdb.GdbError as failure:
                    print(failure)
                print()


class SelectFiber(gdb.Command):
    """Look at a fiber: bt, up, down, frame, info locals and print are about its stack, until
`exeunt thread`, or until the program goes on. Without an argument, say which one it is.

Usage: exeunt fiber [ID]"""

    def __init__(self):
        super().__init__("exeunt fiber", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        if not argument.strip():
            if UNWINDER.fiber is None:
                raise gdb.GdbError("gdb looks at a thread, not at a fiber in its place.")
            print(UNWINDER.fiber)
            return
        fiber = fiber_by_id(argument.strip())
        enter(fiber)
        print(f"[Looking at {fiber}]")
        gdb.execute("frame")


class SelectThread(gdb.Command):
    """Look at the selected thread's own stack again, after `exeunt fiber`.

Usage: exeunt thread"""

    def __init__(self):
        super().__init__("exeunt thread", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        UNWINDER.hide()
        if gdb.selected_thread() is None:
            raise gdb.GdbError(NO_PROCESS)
        gdb.newest_frame().select()
        gdb.execute("frame")


class SaveCore(gdb.Command):
    """Save a core file of the process: gdb's own generate-core-file, which leaves out the stacks of
most fibers on Linux 6.13 and later, and then these stacks.

Usage: exeunt core FILE"""

    def __init__(self):
        super().__init__("exeunt core", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument, from_tty):
        path = argument.strip()
        if not path:
            raise gdb.GdbError("Usage: exeunt core FILE")
        all_runtimes()  # Or there is nothing to add.
        gdb.execute(f"generate-core-file {path}")
        with clear_errors():
            count = add_stacks(path)
        print(f"Added the stacks of {count} fibers")


Exeunt()
SaveCore()
InfoFibers("info fibers")
InfoFibers("exeunt fibers")
Backtrace()
SelectFiber()
SelectThread()
