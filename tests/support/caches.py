"""Caches of Django's kind that are slow, hang or break, as a cache server does that is far, frozen or gone."""

import time
from pathlib import Path
from typing import Any

from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache


class FarCache(LocMemCache):
    """Each call costs a round trip. `calls` has the names of all calls."""

    calls: list[str] = []
    round_trip_seconds = 0.001
    broken = False
    poisoned: set[str] = set()

    def _travel(self, name: str, keys: list[str]) -> None:
        FarCache.calls.append(name)
        time.sleep(self.round_trip_seconds)
        if self.broken:
            raise ConnectionError("the cache is away")
        if name != "has_key" and any(key.endswith(tuple(self.poisoned)) for key in keys if self.poisoned):
            raise ValueError("this value can't be unpickled")

    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        wanted = list(keys)
        self._travel("get_many", wanted)
        return {key: value for key in wanted if (value := super(FarCache, self).get(key, version=version)) is not None}

    def has_key(self, key: Any, version: int | None = None) -> bool:
        self._travel("has_key", [key])
        return super().has_key(key, version)

    def __contains__(self, key: object) -> bool:
        return self.has_key(key)


class HangingCache(FileBasedCache):
    """A file-based cache. While its folder has the file `hang`, asking for many keys, or whether a key exists, takes
    HANG_SECONDS; reading one key, as each handshake and each page does, goes on.
    """

    HANG_SECONDS = 30.0

    def _hang(self) -> None:
        if (Path(self._dir) / "hang").exists():  # type: ignore[attr-defined]  # Django's
            (Path(self._dir) / "hanging").touch()  # type: ignore[attr-defined]
            time.sleep(self.HANG_SECONDS)

    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        self._hang()
        return super().get_many(keys, version)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        self._hang()
        return super().has_key(key, version)
