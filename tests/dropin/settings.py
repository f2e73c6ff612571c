"""What `startproject` writes, a user model of their own, and the lines of docs/how-to/add-to-your-project.md.

DATABASE_URL is the SQLite file of the test.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "somebody else's key, which only tests use, and which is long enough"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tests.dropin.accounts",
    # Added:
    "channels",
    "django_htmx",
    "connections",
    "console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Added:
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "tests.dropin.urls"
ASGI_APPLICATION = "tests.dropin.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_URL", "db.sqlite3").removeprefix("sqlite:///"),
        # Added:
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5},
        # Theirs:
        "ATOMIC_REQUESTS": True,
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

AUTH_USER_MODEL = "accounts.Member"
LOGIN_URL = "/welcome/"
LANGUAGE_CODE = "de"
TIME_ZONE = "Europe/Vienna"
USE_TZ = True
STATIC_URL = "assets/"

# Added: the numbers of this project, which the environment may overrule.
CONNECTIONS = {"soft_limit": 3, "burst": 2}
