"""Tests of the Django admin: one file for each module of connections/admin."""
