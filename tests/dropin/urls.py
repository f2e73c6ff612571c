"""The adopter's URLs, and the three lines that docs/how-to adds."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

from connections import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("welcome/", LoginView.as_view(template_name="registration/login.html")),
    path("support/", include("console.urls")),
    path("healthz", views.healthz),
    path("readyz", views.readyz),
]
