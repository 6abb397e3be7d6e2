"""Write events into a log until killed, and tell each one that is acknowledged; ``early`` tells it a commit too early.

Run as ``python write_events.py LOG FIRST early|late``; test_journal.py starts it.
"""

from __future__ import annotations

import sys

from towerkit.serving.journal import Happened, Journal


def main(path: str, first: int, when: str) -> None:
    journal = Journal(path)
    number, waiting = first, []
    while True:
        batch = [
            Happened("shop", f"e{n}", f"u{n % 7}", f"i{n}", float(n)) for n in range(number, number + 1 + number % 3)
        ]
        told = "".join(f"{event.id}\n" for event in batch)
        print(f"about to write {batch[-1].id}", file=sys.stderr, flush=True)
        if when == "early":
            sys.stdout.write(told)
            sys.stdout.flush()
        journal.append(waiting if when == "early" else batch)
        waiting = batch
        if when == "late":
            sys.stdout.write(told)
            sys.stdout.flush()
        number += len(batch)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
