"""The log-in page."""

from django.contrib.auth.views import LoginView
from django.urls import reverse

from console.access import Right


class LogIn(LoginView):
    template_name = "accounts/login.html"

    def get_default_redirect_url(self) -> str:
        """Without `next`, send staff to the console and end users to their chat."""
        if self.request.user.has_perm(Right.VIEW):
            return reverse("console:overview")
        return super().get_default_redirect_url()
