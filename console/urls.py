"""Every URL of the site. Sockets are routed in asgi.py."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from connections import health

urlpatterns = [
    path("accounts/login/", auth.LoginView.as_view(template_name="accounts/login.html"), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("", include("connections.chat.urls")),
    path("console/", include("console.pages")),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
