"""URL paths of the measured variants. The load client imports this module too, so it imports no Django."""

POOL = "bench"
BARE, WRAPPED, INJECTED = "bare", "wrapped", "wrapped, our frames"
VARIANTS = {BARE: "/bench/bare/", WRAPPED: "/bench/wrapped/", INJECTED: "/bench/injected/"}
CHAT = "/ws/chat/"
