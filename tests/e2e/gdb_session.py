# SPDX-License-Identifier: Apache-2.0
"""Runs inside gdb: carries out commands and keeps what each of them says.

EXEUNT_GDB_SESSION names a JSON file with the list `commands`; the answers go to the file `answers`
that it names, a list of the same length. In a command, {name} stands for the id of the fiber of
that name, and {frame name} for the number of the frame of that function in the stack that is
selected. A command that fails is answered by "error: " and the reason, and the next one follows.
"""

import json
import os
import re

import gdb


def answer(command):
    try:
        return gdb.execute(command, to_string=True)
    except gdb.error as failure:
        return f"error: {failure}"


def number(match):
    if match[1]:
        found = re.search(rf"^#(\d+) .*\b{match[2]} ?\(", answer("bt"), re.MULTILINE)
    else:
        found = re.search(rf"^[* ] (\d+) +{match[2]} ", answer("info fibers"), re.MULTILINE)
    return found[1] if found else match[0]


def main():
    with open(os.environ["EXEUNT_GDB_SESSION"], encoding="utf-8") as file:
        session = json.load(file)
    answers = []
    for command in session["commands"]:
        answers.append(answer(re.sub(r"\{(frame )?(\w+)\}", number, command)))
    with open(session["answers"], "w", encoding="utf-8") as file:
        json.dump(answers, file)


main()
