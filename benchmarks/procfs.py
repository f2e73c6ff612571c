"""What Linux knows about a process."""

import os
from pathlib import Path


def rollup(pid: int) -> dict[str, int]:
    """Its memory in KiB, by the kernel's names: Rss, Pss and others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def cpu_seconds(pid: int) -> float:
    """What its threads have had of the cores so far, user and system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")
