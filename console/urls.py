"""The URLs of the console. A page answers GET, an action POST; each verb has one URL."""

from django.urls import path

from console.views.audit import audit, audit_csv
from console.views.limits import limit
from console.views.managers import close_manager
from console.views.nodes import drain, nodes
from console.views.overview import overview
from console.views.recover import bulk_recover, check, recover, reset
from console.views.runs import run, runs
from console.views.user import user
from console.views.users import users

app_name = "console"

urlpatterns = [
    path("", overview, name="overview"),
    path("users/", users, name="users"),
    path("users/recover/", bulk_recover, name="bulk_recover"),
    path("users/<str:user_id>/", user, name="user"),
    path("users/<str:user_id>/check/", check, name="check"),
    path("users/<str:user_id>/recover/", recover, name="recover"),
    path("users/<str:user_id>/reset/", reset, name="reset"),
    path("users/<str:user_id>/limit/", limit, name="limit"),
    path("managers/<uuid:manager_id>/close/", close_manager, name="close_manager"),
    path("runs/", runs, name="runs"),
    path("runs/<uuid:run_id>/", run, name="run"),
    path("nodes/", nodes, name="nodes"),
    path("nodes/<uuid:node_id>/drain/", drain, name="drain"),
    path("audit/", audit, name="audit"),
    path("audit.csv", audit_csv, name="audit_csv"),
]
