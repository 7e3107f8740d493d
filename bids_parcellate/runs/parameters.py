"""Records of an estimator's parameters."""

from dataclasses import fields
from typing import Self


class FromEstimator:
    """What a dataclass of parameters inherits, so that it can be made of an estimator that has them."""

    @classmethod
    def of(cls, estimator: object) -> Self:
        """Take the parameters of an estimator.

        Parameters
        ----------
        estimator : object
            It has an attribute for each field of the dataclass.

        Returns
        -------
        dataclass
            With the values of now.
        """
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})  # type: ignore[arg-type]
