"""This process as a node: its lease, its threads, and what it does for its managers. Code here may touch every room
below: recovery, records, websocket, bus, database, policy.
"""
