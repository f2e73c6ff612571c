"""The three ways to the one consumer, for the servers and for those who measure them. No Django here."""

POOL = "bench"
BARE, WRAPPED, INJECTED = "bare", "wrapped", "wrapped, our frames"
SIDES = {BARE: "/bench/bare/", WRAPPED: "/bench/wrapped/", INJECTED: "/bench/injected/"}
CHAT = "/ws/chat/"
