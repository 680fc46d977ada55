"""What the check of a whole submission may use; nothing in the submission has a say in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Processor time, wall time and memory for one submission, from now on.

    Attributes:
        memory_mib: that one process may add to what its libraries take; processes that read or
            play a submission run one after another.
        cpu_seconds: of all these processes together.
        wall_seconds: until the last of them has ended.
    """

    memory_mib: int = 4096
    cpu_seconds: float = 14_400.0
    wall_seconds: float = 14_400.0
    _cpu_used: float = field(default=0.0, init=False)
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin."""
        self._end = time.monotonic() + self.wall_seconds

    def left(self) -> tuple[float, float]:
        """Processor seconds and wall seconds that are left, both more than 0.

        Raises:
            ValueError: one of them is used up.
        """
        cpu, wall = self.cpu_seconds - self._cpu_used, self._end - time.monotonic()
        if cpu <= 0.0:
            raise ValueError(
                f"the submission takes more than the {self.cpu_seconds:g} s of processor time that "
                f"its check may take; give more with --cpu-seconds"
            )
        if wall <= 0.0:
            raise ValueError(
                f"the submission takes more than the {self.wall_seconds:g} s of wall time that its "
                f"check may take; give more with --wall-seconds"
            )
        return cpu, wall

    @property
    def cpu_used(self) -> float:
        """Processor seconds that were charged so far."""
        return self._cpu_used

    def share(self, n_rows: int) -> float:
        """Seconds that one of so many rows may take if they share what is left alike.

        They are of processor time, and no more than there are of wall time.

        Raises:
            ValueError: the budget is used up.
        """
        return min(self.left()) / n_rows

    def charge(self, cpu_seconds: float) -> None:
        """Count processor time of a process that has ended."""
        self._cpu_used += cpu_seconds
