"""What is decided, as pure functions over facts; `now` is an argument. Code here touches the standard library only."""
