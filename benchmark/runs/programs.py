"""What other programs say."""

import shutil
import subprocess

SECONDS = 10.0
"""How long a program may take to answer."""


def output(*command: str) -> str | None:
    """Standard output of a command, or None where it is absent, fails or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
