"""Tests of the console's pages and actions: one file for each view."""
