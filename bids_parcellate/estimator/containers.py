"""The containers of scikit-learn's ``set_output``: arrays or data frames."""

from importlib import import_module
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import sklearn
from sklearn.base import TransformerMixin

from bids_parcellate.errors import UsageError

Outputs = Literal["default", "pandas", "polars"]
Signals = npt.NDArray[np.floating] | pd.DataFrame | Any  # Any: a data frame of polars, which need not be installed


class ContainerMixin(TransformerMixin):  # type: ignore[misc]  # sklearn has no types
    """What an estimator inherits whose `transform` gives an array, or a list of arrays, in the chosen container.

    It has ``get_feature_names_out``, and calls ``_contain`` on what it returns.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(auto_wrap_output_keys=None, **keywords)  # scikit-learn's wrapping knows no lists

    def set_output(self, *, transform: Outputs | None = None) -> Self:
        """Choose what `transform` and `fit_transform` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None
            Arrays, or data frames with the names of the features as columns. None changes nothing.

        Returns
        -------
        estimator
            The estimator itself.

        Raises
        ------
        UsageError
            If it is none of them.
        """
        if transform not in ("default", "pandas", "polars", None):
            raise UsageError(f"transform={transform!r} is none of default, pandas, polars")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # where scikit-learn's clone looks for it
        return self

    @property
    def _container(self) -> Outputs:
        """What was chosen here, or for all of scikit-learn."""
        chosen: Outputs = getattr(self, "_sklearn_output_config", {}).get(
            "transform", sklearn.get_config()["transform_output"]
        )
        return chosen

    @overload
    def _contain(self, signals: list[npt.NDArray[Any]]) -> list[Signals]: ...
    @overload
    def _contain(self, signals: npt.NDArray[Any]) -> Signals: ...
    def _contain(self, signals: npt.NDArray[Any] | list[npt.NDArray[Any]]) -> Signals | list[Signals]:
        """Put signals, or each of a list, into the container that was chosen."""
        if self._container == "default":
            return signals
        if isinstance(signals, list):
            return [self._contain(each) for each in signals]
        names, rows = self.get_feature_names_out(), np.atleast_2d(signals)
        if self._container == "pandas":
            return pd.DataFrame(rows, columns=names)
        return import_module("polars").DataFrame(rows, schema=list(names), orient="row")
