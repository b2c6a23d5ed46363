"""Where the checks run, and how large."""

from typing import NamedTuple


class Setting(NamedTuple):
    """Of a run of the checks."""

    device: str  # "GPU", or "CPU"
    small: bool = False  # sizes that a CPU copes with
    data_dir: str | None = None  # of CIFAR-10

    def size(self, full, small):
        """One of two sizes."""
        return small if self.small else full
