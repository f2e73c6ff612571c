"""Helpers for all tiers: databases, server processes, chat clients, a browser. They contain no tests, and may start
processes and touch any part of the project.
"""
