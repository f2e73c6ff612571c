"""The contents of the pages, read from the rows in few queries; code here never writes."""
