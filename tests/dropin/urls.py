"""Their URLs, and three lines of ours."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

from connections import health

urlpatterns = [
    path("admin/", admin.site.urls),
    path("welcome/", LoginView.as_view(template_name="registration/login.html")),
    path("support/", include("console.pages")),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
]
