"""Write events and items into a log until killed, and tell each one that is acknowledged; ``early`` tells it a commit too early.

In between the log is compacted.

Run as ``python write_events.py LOG early|late``; for each number on its standard input it forks a writer that begins there, and
tells its process, so that a thousand writers cost one start of Python. test_journal.py starts it.
"""

from __future__ import annotations

import os
import sys

from towerkit.serving.journal import Happened, Journal


def main(path: str, when: str) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            write(path, int(line), when)
        tell(f"writer {child}")
        os.waitpid(child, 0)
        tell("killed")


def write(path: str, first: int, when: str) -> None:
    journal = Journal(path)
    number, waiting = first, ([], [])
    while True:
        numbers = range(number, number + 1 + number % 3)
        events = [Happened("shop", f"e{n}", f"u{n % 7}", f"i{n}", float(n)) for n in numbers]
        items = [(f"i{n}", {"price": n}) for n in numbers]
        told = [f"told e{n}" for n in numbers] + [f"told i{n}" for n in numbers]
        tell(f"begun {numbers[-1]}")
        if when == "early":
            tell(*told)
        batch = waiting if when == "early" else (events, items)
        journal.append(batch[0])
        journal.put_items("shop", batch[1])
        waiting = (events, items)
        if when == "late":
            tell(*told)
            if number % 5 == 0:
                journal.compact("shop", keep=2)  # all items differ: of each event something stays
        number += len(numbers)


def tell(*lines: str) -> None:
    os.write(1, "".join(f"{line}\n" for line in lines).encode())  # whole, or not at all


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
