"""Helpers for all tiers (databases, server processes, chat clients, a browser), which contain no tests, may start
processes, and may import any part of the project.
"""
