"""bids-parcellate: a BIDS-App that fits a group brain parcellation on fMRI derivatives."""

from typing import TYPE_CHECKING

from bids_parcellate.version import __version__

if TYPE_CHECKING:
    from bids_parcellate.estimator.parcellations import Parcellations

__all__ = ["Parcellations", "__version__"]


def __getattr__(name: str) -> object:
    # Loaded when it is asked for, so that the command line need not load scientific Python to print its help.
    if name == "Parcellations":
        from bids_parcellate.estimator.parcellations import Parcellations  # noqa: PLC0415

        return Parcellations
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
