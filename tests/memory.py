"""How much memory a process took at the most."""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """Most bytes this process held at a time, since its program began.

    The kernel's count for the program that runs (Linux, ``VmHWM``). ``resource.getrusage`` will not do: its maximum is
    inherited from the process that started this one, and hides everything smaller.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["VmHWM"].split()[0])
