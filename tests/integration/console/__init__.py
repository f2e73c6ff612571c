"""The console's pages and actions, one file a view."""
