"""The secret key of a checkout: made on first use, so that `make run` needs no set-up. No two share one."""

import os
import secrets
import tempfile
from pathlib import Path


def checkout_key(path: Path) -> str:
    """Return the key in the file `path`. Make the file (mode 0600) if it does not exist.

    Several processes may start at once and must end up with one key. So each writes a key to its own file and
    hard-links it into place: linking fails for all but the first, and no process reads a half-written file.
    """
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        pass
    # mkstemp makes files with mode 0600.
    descriptor, draft = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(64))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
    return path.read_text("ascii")
