"""/healthz and /readyz: whether the process works, and whether it holds its lease and admits."""

from django.http import HttpRequest, JsonResponse

from connections.node import current_node


def healthz(request: HttpRequest) -> JsonResponse:
    node = current_node()
    works = node is None or node.works
    return JsonResponse({"works": works}, status=200 if works else 503)


def readyz(request: HttpRequest) -> JsonResponse:
    node = current_node()
    ready = node is not None and node.ready
    return JsonResponse({"ready": ready, "node": None if node is None else node.name}, status=200 if ready else 503)
