from django.urls import path

from connections.chat.views import page

app_name = "chat"
urlpatterns = [path("", page, name="home"), path("chat/", page, name="page")]
