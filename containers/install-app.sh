#!/bin/sh
# Install the wheel of bids-parcellate into /opt/bids-parcellate, compile its kernels, and write /version.
# Usage: install-app.sh WHEEL SHIPPED_KERNELS
set -eu
target=/opt/bids-parcellate
export PATH="$target/bin:$PATH"

/usr/local/bin/python -B -m pip --python "$target" install --quiet --no-cache-dir --no-index --no-deps --no-compile "$1"
cp "$2" "$target"/lib/python3.*/site-packages
python -c 'from bids_parcellate import version; print(version.__version__)' >/version

# Use it once, on simulated data, with each clustering that has kernels of its own: numba keeps the kernels, and Python
# the byte code of what was imported. Nothing can be kept when the image is read-only.
export NUMBA_CACHE_DIR="$target/kernels" NUMBA_CPU_NAME=generic NUMBA_CACHE_LOCATOR_CLASSES=''
study=$(mktemp -d)
export HOME="$study"
python - "$study/fmriprep" <<'END'
import sys
from pathlib import Path

from bids_parcellate.demo import write_dataset

write_dataset(Path(sys.argv[1]), n_subjects=1, n_volumes=80, voxel_size=8.0, n_parcels=10)
END
for method in ward rena kmeans; do
    bids-parcellate "$study/fmriprep" "$study/$method" group \
        --nprocs 1 --method "$method" --n-parcels 10 --work-dir "$study/work"
done
rm -r "$study"
