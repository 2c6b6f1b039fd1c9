"""Who opened which timeline folder, and when: a log that is kept only where it is asked for.

Set ``TEMMED_ACCESS_LOG`` to a file. Every opening appends one line of JSON to it. Lines of several processes do not
mix, because each is written at once to a file that is only appended to.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from temmed.errors import InputError

VARIABLE = "TEMMED_ACCESS_LOG"


def record_opening(root: Path, fingerprint: str) -> None:
    """Append who opened a folder; nothing where no log is asked for.

    Args:
        root: the folder.
        fingerprint: of its content.

    Raises:
        InputError: the log cannot be written. The folder stays closed then: a log with holes proves nothing.
    """
    target = os.environ.get(VARIABLE)
    if not target:
        return
    import getpass
    import socket
    from datetime import UTC, datetime

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container a user may have a number and no name.
        user = str(os.getuid())
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": user,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "command": Path(sys.argv[0]).name if sys.argv else "",
        "folder": str(root.absolute()),
        "fingerprint": fingerprint,
    }
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(
            "a file that lines can be appended to", error.strerror or str(error), target, f"Correct {VARIABLE}."
        ) from error
