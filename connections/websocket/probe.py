"""The probe of one manager in a roll call."""

from datetime import datetime

from connections.policy.states import ProbeMode, Verdict


class Probe:
    """One manager's part in a roll call. `sent` is when this node sent the ping, on its own clock."""

    __slots__ = ("evidence", "mode", "sent", "verdict", "wanted_at")

    def __init__(self, wanted_at: datetime, mode: ProbeMode, sent: float) -> None:
        self.wanted_at = wanted_at
        self.mode = mode
        self.sent = sent
        self.verdict: Verdict | None = None
        self.evidence = ""

    def answer(self, verdict: Verdict, evidence: str) -> None:
        self.verdict, self.evidence = verdict, evidence
