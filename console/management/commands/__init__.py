"""One module for each command of `manage.py`: the demo and its cluster. None of it is imported."""
