"""One module for each command of `manage.py`. Code here may touch every room, and none of it is imported."""
