"""A backend of a third party for PostgreSQL, as PostGIS, SpatiaLite and django-tenants are: ENGINE is this package."""
