"""The commands of `manage.py`, a module for each. A command may import every room; no other module imports one."""
