"""What the pages show, read from the rows in few queries. Nothing here writes."""
