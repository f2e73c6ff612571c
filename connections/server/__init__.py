"""`serve`: Daphne, uvicorn and signals. Code here may touch the servers and start a node."""
