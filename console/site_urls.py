"""Every URL of the site. Sockets are routed in asgi.py."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from connections import views
from console.views.login import LogIn

urlpatterns = [
    path("accounts/login/", LogIn.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("", include("connections.chat.urls")),
    path("console/", include("console.urls")),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.metrics, name="metrics"),
]
