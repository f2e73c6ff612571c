"""Recoveries: runs, their steps, the sweep, and what both find. Code here may touch records, and ring nodes."""
