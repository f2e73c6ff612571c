"""Tests of what judges and reports an outage."""
