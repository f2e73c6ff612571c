"""A backend of a third party for SQLite, as PostGIS, SpatiaLite and django-tenants are: ENGINE is this package."""
