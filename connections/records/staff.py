"""The actor of an HTTP request from a member of staff."""

from django.http import HttpRequest

from connections.conf import tunables
from connections.policy.actor import Actor
from connections.policy.addresses import client_address


def actor_of(request: HttpRequest) -> Actor:
    """Return the user of a request as the actor, with the client's address."""
    address = client_address(
        request.META.get("REMOTE_ADDR", ""),
        [request.headers.get("X-Forwarded-For", "")],  # Django joins the lines of a header with commas
        tunables().trusted_proxies,
    )
    return Actor.staff(request.user, address)
