"""Recovery: runs and their steps, the sweep, and their findings. Code here may change records and ring nodes."""
