"""console/pages.py"""

import sys

import pytest
from django.urls import include, path

from console import urls


def test_the_old_module_name_includes_the_same_urls_and_warns_of_the_new_name() -> None:
    sys.modules.pop("console.pages", None)
    with pytest.warns(DeprecationWarning, match=r"console\.pages is now console\.urls"):
        resolver = path("support/", include("console.pages"))
    assert resolver.url_patterns == urls.urlpatterns
    assert (resolver.app_name, resolver.namespace) == ("console", "console")
