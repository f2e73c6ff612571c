"""Memory and CPU time of a process, from Linux's /proc."""

import os
from pathlib import Path


def memory_kib(pid: int) -> dict[str, int]:
    """KiB of memory by the names in smaps_rollup: Rss, Pss and others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def cpu_seconds(pid: int) -> float:
    """CPU seconds of all the process's threads so far, user plus system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
