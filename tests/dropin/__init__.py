"""Somebody else's project: what docs/how-to says is added to it, and no more. Only asgi.py and urls.py name us."""
