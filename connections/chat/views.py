"""The chat page. Everything after it goes over the socket."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from connections.chat import store
from connections.chat.limits import TEXT_CHARACTERS
from connections.chat.runner import runner


@require_safe
@never_cache
@login_required
def page(request: HttpRequest) -> HttpResponse:
    data = {
        "user": str(request.user.pk),
        "login": f"{resolve_url(settings.LOGIN_URL)}?next={request.path}",
        "conversations": store.conversations(request.user.pk),
    }
    context = {"data": data, "longest": TEXT_CHARACTERS, "introduction": runner.agent.introduction}
    return render(request, "chat/page.html", context)
