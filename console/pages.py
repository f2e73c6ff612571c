"""The old name of `console.urls`, for one release."""

import warnings

from console.urls import app_name, urlpatterns

__all__ = ["app_name", "urlpatterns"]

warnings.warn("console.pages is now console.urls: include that.", DeprecationWarning, stacklevel=2)
