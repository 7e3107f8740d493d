"""How numba finds the kernels that were compiled when the image was made.

numba uses a cache only where it can also write, which nobody can in a read-only image. Each process therefore gets a
copy of its own, some hundred kilobytes, among the temporary files; it goes when the process ends. The image names this
class in NUMBA_CACHE_LOCATOR_CLASSES, and the folder of the kernels in NUMBA_CACHE_DIR.
"""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from numba.core import config
from numba.core.caching import UserProvidedCacheLocator


@cache
def _private_copy() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="bids-parcellate-kernels-")
    shutil.copytree(config.CACHE_DIR, folder.name, dirs_exist_ok=True)
    return folder


class ShippedKernels(UserProvidedCacheLocator):
    """Locates kernels in this process's copy of those that the image holds."""

    def get_cache_path(self) -> str:
        """Name the folder of a module's kernels.

        Returns
        -------
        str
            A folder that numba can write to, too.
        """
        return str(Path(_private_copy().name, Path(super().get_cache_path()).name))
