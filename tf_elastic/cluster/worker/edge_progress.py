"""How far a child of a tree is, as it tells its parent."""


class EdgeProgress:
    """A child's steps and samples, and which of them its parent knows.

    Samples that have reached a parent that it has left count there.
    """

    def __init__(self) -> None:
        self.clock = 0
        self.elsewhere = 0  # samples
        self._samples = 0
        self._acknowledged = 0

    def note(self, clock: int, samples: int) -> None:
        """Notes how far the child is."""
        self.clock, self._samples = clock, samples

    @property
    def own(self) -> int:
        """Samples that the parent is told of."""
        return self._samples - self.elsewhere

    def told(self) -> dict[str, int]:
        """What the parent is told."""
        return {"clock": self.clock, "samples": max(self.own, 0)}

    def acknowledge(self, samples: int) -> None:
        """The parent knows of so many."""
        self._acknowledged = max(self._acknowledged, samples)

    def moves(self) -> None:
        """The child goes to another parent."""
        self.elsewhere += self._acknowledged
        self._acknowledged = 0
