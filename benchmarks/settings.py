"""How a benchmark is run."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.phantom import MM2, MM3, TINY_MM2, TINY_MM3, Size


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    Parameters
    ----------
    work : Path
        Where phantoms are kept and results are written.
    repeats : int, default=3
        How often each peer runs.
    tiny : bool, default=False
        Whether everything is so small that it only shows that the suite works.
    """

    work: Path
    repeats: int = 3
    tiny: bool = False

    @property
    def mm3(self) -> Size:
        """The size of a phantom at 3 mm."""
        return TINY_MM3 if self.tiny else MM3

    @property
    def mm2(self) -> Size:
        """The size of a phantom at 2 mm."""
        return TINY_MM2 if self.tiny else MM2
