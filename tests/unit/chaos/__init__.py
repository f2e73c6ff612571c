"""The judges, bounds, schedules and clients of the chaos runs, without a cluster."""
