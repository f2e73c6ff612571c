"""The chat page. After it, client and server talk over the socket."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from connections.chat import agents, messages
from connections.chat.limits import TEXT_CHARACTERS


@require_safe
@never_cache
@login_required
def page(request: HttpRequest) -> HttpResponse:
    data = {
        "user": str(request.user.pk),
        "username": request.user.get_username(),
        "login": f"{resolve_url(settings.LOGIN_URL)}?next={request.path}",
        "longest": TEXT_CHARACTERS,
    }
    listed = messages.conversations(request.user.pk)
    return render(request, "chat/page.html", {"data": data | listed, "introduction": agents.configured().introduction})
