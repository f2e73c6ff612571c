"""The Django project and the staff console; of `connections.chat` only asgi and site_urls know."""
