"""Record which messages of one conversation were sent to one socket."""


class Sent:
    """Every sequence number up to `upto` was sent, except those in `_gaps`, which at first are all of them."""

    __slots__ = ("_gaps", "upto")

    def __init__(self, upto: int) -> None:
        self.upto = upto
        self._gaps = [range(1, upto + 1)]

    def next_gap(self, after: int) -> range:
        """The lowest numbers above `after` and below `upto` that were not sent. Empty if there are none."""
        for gap in self._gaps:
            if gap.stop > after + 1:
                return range(max(gap.start, after + 1), gap.stop)
        return range(0)

    def add(self, seq: int) -> None:
        """Record that this message was sent. `seq` is in a gap, or the next one after `upto`."""
        self.upto = max(self.upto, seq)
        rests = [(range(gap.start, min(gap.stop, seq)), range(max(gap.start, seq + 1), gap.stop)) for gap in self._gaps]
        self._gaps = [rest for pair in rests for rest in pair if rest]
