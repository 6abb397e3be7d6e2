"""Nothing that only POSIX systems have is used without another way: the files are read for such names.

- A module that Windows lacks is imported only where the import may fail; a function or constant that it lacks stands only in the
  places below, each of which has another way there.
- Helpers of tests (``towerkit.testing``) may need Linux, but none is imported by the library.
- The control: code with such names is found out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "towerkit"
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
OF_OS = {
    "chown", "chroot", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid",
    "getuid", "killpg", "lchown", "major", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2", "posix_fadvise",
    "posix_fallocate", "posix_spawn", "pread", "pwrite", "sched_getaffinity", "sched_setaffinity", "sendfile", "setgid", "setsid",
    "setuid", "statvfs", "sync", "sysconf", "ttyname", "uname", "wait3", "wait4", "waitid", "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC",
    "O_NOATIME", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG",
}  # fmt: skip
OF_SIGNAL = {
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGKILL",
    "SIGPIPE",
    "SIGQUIT",
    "SIGSTOP",
    "SIGUSR1",
    "SIGUSR2",
    "alarm",
    "pause",
}
"""What Windows has of neither module."""
WITH_ANOTHER_WAY = {
    "studio/trainings.py os.sysconf": "when a process began is not told",
}


def found_in(tree: ast.Module) -> Iterator[str]:
    """Such names in a file, those of imports that may fail left out."""
    may_fail = {
        inner
        for each in ast.walk(tree)
        if isinstance(each, ast.Try)
        and any(isinstance(one.type, ast.Name) and "Import" in one.type.id for one in each.handlers)
        for inner in ast.walk(each)
    }
    for each in ast.walk(tree):
        if isinstance(each, ast.Import | ast.ImportFrom) and each not in may_fail:
            names = [one.name for one in each.names] if isinstance(each, ast.Import) else [each.module or ""]
            yield from (name for name in names if name in MODULES)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            wanted = {"os": OF_OS, "signal": OF_SIGNAL}.get(each.value.id, set())
            if each.attr in wanted:
                yield f"{each.value.id}.{each.attr}"


def test_no_file_needs_posix() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "testing"]
    found = {
        f"{path.relative_to(SOURCE).as_posix()} {name}"
        for path in files
        for name in found_in(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(files) > 300 and found == set(WITH_ANOTHER_WAY)


def test_the_library_imports_no_helper_of_tests_that_needs_linux() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] != "testing":
            text = path.read_text(encoding="utf-8")
            assert "towerkit.testing.syscalls" not in text and "towerkit.testing.browser" not in text, path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os\nos.fork()", ["os.fork"]),
        ("import fcntl", ["fcntl"]),
        ("from resource import getrusage", ["resource"]),
        ("import signal\nsignal.SIGKILL", ["signal.SIGKILL"]),
        ("try:\n    import resource\nexcept ImportError:\n    resource = None", []),
        ("import os\nos.replace('a', 'b')", []),
    ],
)
def test_the_control(text: str, found: list[str]) -> None:
    assert list(found_in(ast.parse(text))) == found
