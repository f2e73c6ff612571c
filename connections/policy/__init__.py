"""What is decided, as pure functions over facts. Code here may touch the standard library only; `now` is an argument."""
