"""A project's session engine on Django's cache engine, which by an `exists` of its own knows more than the cache."""

from django.contrib.sessions.backends import cache

from tests.support import odd_sessions


class SessionStore(cache.SessionStore):
    def exists(self, session_key: str | None) -> bool:
        return session_key in odd_sessions.SessionStore.there
