"""An adopter's project with the additions of docs/how-to, which are in asgi.py, urls.py and settings.py only."""
