"""Settings, from the environment: docs/settings.md lists the variables.

The `CONNECTIONS_*` variables are read in connections/conf.py, and nowhere else.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import dj_database_url

from console import logs
from console.secret_key import checkout_key

BASE_DIR = Path(__file__).resolve().parent.parent


def _switch(name: str) -> bool:
    value = os.environ.get(name, "").strip().lower()
    if value not in {"", "0", "off", "false", "no", "1", "on", "true", "yes"}:
        raise SystemExit(f"{name} must be on or off, not {value!r}")
    return value in {"1", "on", "true", "yes"}


def _words(name: str, default: str = "") -> list[str]:
    value = os.environ.get(name, "").strip() or default
    return [word.strip() for word in value.split(",") if word.strip()]


DEBUG = _switch("DEBUG")
# `serve` refuses to listen beyond loopback while these are unset.
LEFT_AT_DEFAULTS = [name for name in ("SECRET_KEY", "ALLOWED_HOSTS") if not os.environ.get(name)]
SECRET_KEY = os.environ.get("SECRET_KEY") or checkout_key(BASE_DIR / ".secret_key")
ALLOWED_HOSTS = _words("ALLOWED_HOSTS", default="localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    # Daphne's app adds WebSockets to runserver. Other commands would spend half a second importing Twisted.
    *(["daphne"] if "runserver" in sys.argv[1:2] else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "channels",
    "connections",
    "connections.chat",
    "console",
]

MIDDLEWARE = [
    "console.middleware.content_security_policy",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "console.site_urls"
ASGI_APPLICATION = "console.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

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

# --- Database ----------------------------------------------------------------


# With the extensions that an address can name: postgis:// and spatialite://.
POSTGRES_ENGINES = {"django.db.backends.postgresql", "django.contrib.gis.db.backends.postgis"}
SQLITE_ENGINES = {"django.db.backends.sqlite3", "django.contrib.gis.db.backends.spatialite"}


def _without_ports_of_several_hosts(url: str) -> tuple[str, str]:
    """(the address, the ports) of `postgres://name@one:5432,two:5433/base`, which no parser of addresses takes."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    before, at, hosts = place.rpartition("@")
    if "," not in hosts or ":" not in hosts:
        return url, ""
    each = [
        host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "5432") for host in hosts.split(",")
    ]
    names = ",".join(name for name, _, _ in each)
    return f"{scheme}{mark}{before}{at}{names}{slash}{path}", ",".join(port for _, _, port in each)


def database(url: str) -> dict[str, Any]:
    """The entry in DATABASES for an address like DATABASE_URL's."""
    url, ports = _without_ports_of_several_hosts(url)
    database: dict[str, Any] = dict(dj_database_url.parse(url, conn_health_checks=True))
    database |= {"PORT": ports} if ports else {}
    options: dict[str, Any] = dict(database.get("OPTIONS") or {})
    if database["ENGINE"] in SQLITE_ENGINES:
        # IMMEDIATE: otherwise a transaction that reads before it writes fails at once if another one has written
        # meanwhile, whatever the timeout. 5 s: more than the 4 s that an admission may wait for a lock.
        options = {"transaction_mode": "IMMEDIATE", "timeout": 5} | options
        # A file, since the writer's thread has its own connection; one file per test run.
        test_file = Path(tempfile.gettempdir()) / f"recovery-console-test-{os.getpid()}.sqlite3"
        database["TEST"] = {"NAME": test_file}
    elif database["ENGINE"] in POSTGRES_ENGINES:
        # Each HTTP request runs in its own thread, so without a pool each would open a connection. A page fails
        # after 4 s rather than queue for longer. The engine's threads have their own connections, with shorter
        # bounds (connections/database/). The pool waits twice as long before each new attempt to connect,
        # so after an outage of a minute it would take another; when it gives up, the next request begins anew.
        pool = {"min_size": 1, "max_size": 10, "timeout": 4, "reconnect_timeout": 2}
        timeouts = "-c lock_timeout=4000 -c statement_timeout=15000 -c idle_in_transaction_session_timeout=5000"
        # PostgreSQL takes the last of two values, so what the address sets of its own wins, and adds to ours.
        options["options"] = f"{timeouts} {options.get('options', '')}".strip()
        options = {
            "target_session_attrs": "read-write",  # after a failover a name, or the first host, may be a standby
            "pool": pool,
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        } | options
    database["OPTIONS"] = options
    return database


DATABASES = {"default": database(os.environ.get("DATABASE_URL", "").strip() or f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}

# --- Bus ----------------------------------------------------------------

_channel_layer_url = os.environ.get("CHANNEL_LAYER_URL", "").strip()
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": _channel_layer_url,
                    "socket_connect_timeout": 3,
                    # More than the layer's blocking pop of 5 s, which would otherwise end an idle receiver.
                    "socket_timeout": 10,
                }
            ],
            # Seconds. Each node joins again every 5 s. With the default, ended nodes would be rung for a day.
            "group_expiry": 60,
        },
    }
    if _channel_layer_url
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

# --- Log-in and the browser ----------------------------------------------------------------

LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# TLS ends at the proxy. Behind a proxy, Django accepts a POST only if its origin is in CSRF_TRUSTED_ORIGINS, so this
# variable also tells whether users reach the site over TLS.
_https = bool(CSRF_TRUSTED_ORIGINS) and all(origin.startswith("https://") for origin in CSRF_TRUSTED_ORIGINS)
SESSION_COOKIE_SECURE = _https
CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
# Not "no-referrer": Django's CSRF check wants a Referer from browsers that send no Origin.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SILENCED_SYSTEM_CHECKS = [
    # TLS ends at the proxy, which also sends Strict-Transport-Security and redirects to https.
    "security.W004",
    "security.W008",
]

# --- Static files ----------------------------------------------------------------

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# For `collectstatic` only, if a proxy serves the files. `serve` needs no collected files.
STATIC_ROOT = BASE_DIR / "staticfiles"
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_USE_STATIC_ROOT = False
SERVESTATIC_USE_MANIFEST = False
SERVESTATIC_ALLOW_ALL_ORIGINS = False

# --- The chat's agent ----------------------------------------------------------------

# The name of a model at an endpoint with OpenAI's protocol. If empty, the built-in agent answers.
CHAT_MODEL = os.environ.get("CHAT_MODEL", "").strip()
CHAT_MODEL_URL = os.environ.get("CHAT_MODEL_URL", "").strip()
CHAT_MODEL_KEY = os.environ.get("CHAT_MODEL_KEY", "").strip()

# --- Words and logs ----------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
DATETIME_FORMAT = "Y-m-d H:i:s"  # with seconds, for the admin

LOGGING = logs.configure(human=DEBUG or sys.stderr.isatty())
