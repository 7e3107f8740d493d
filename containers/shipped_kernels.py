"""How numba finds the kernels that were compiled when the image was made.

numba uses a cache only where it can also write, which nobody can in a read-only image. Each process therefore has a
folder of its own among the temporary files, with links to the image's kernels; it goes when the process ends.
"""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from numba.core import config
from numba.core.caching import UserProvidedCacheLocator


@cache
def _private_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="bids-parcellate-kernels-")
    shutil.copytree(config.CACHE_DIR, folder.name, copy_function=os.symlink, dirs_exist_ok=True)
    return folder


class ShippedKernels(UserProvidedCacheLocator):
    """Locates kernels in this process's folder of those that the image holds."""

    def get_cache_path(self) -> str:
        """Name the folder of a module's kernels.

        Returns
        -------
        str
            A folder that numba can write to, too.
        """
        return str(Path(_private_folder().name, Path(super().get_cache_path()).name))
