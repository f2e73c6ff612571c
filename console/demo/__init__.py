"""The demo's parts: its people, the rows it clears and makes, its processes, and its clients."""
