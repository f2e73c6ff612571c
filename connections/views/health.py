"""/healthz and /readyz: whether the process works, and whether it holds its lease and admits."""

from django.http import HttpRequest, JsonResponse

from connections.process import current_node


def healthz(request: HttpRequest) -> JsonResponse:
    node = current_node()
    works = node is None or node.works
    return JsonResponse({"works": works}, status=200 if works else 503)


def readyz(request: HttpRequest) -> JsonResponse:
    """200: it holds its lease and admits. 503, with `why`: it does not."""
    node = current_node()
    why = "this process has had no WebSocket yet" if node is None else node.unready
    name = None if node is None else node.name
    return JsonResponse({"ready": not why, "node": name, "why": why}, status=503 if why else 200)
