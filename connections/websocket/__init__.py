"""One socket from accept to close. Code here may touch the event loop, no database and no Django."""
