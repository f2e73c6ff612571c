"""Views of the console: a page answers GET, an action POST. A view checks rights and calls reports or `connections`."""
