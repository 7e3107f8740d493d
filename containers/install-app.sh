#!/bin/sh
# Install the wheel of bids-parcellate into /opt/bids-parcellate, compile its kernels, and write /version and the bill of
# materials. Usage: install-app.sh WHEEL
set -eu
here=$(dirname "$0")
target=/opt/bids-parcellate
export PATH="$target/bin:$PATH"

/usr/local/bin/python -B -m pip --python "$target" install --quiet --no-cache-dir --no-index --no-deps --no-compile "$1"
cp "$here/shipped_kernels.py" "$target"/lib/python3.*/site-packages
python -c 'from bids_parcellate import version; print(version.__version__)' >/version
python "$here/write_sbom.py" >"$target/sbom.cdx.json"

HOME=$(mktemp -d)
export HOME
NUMBA_CACHE_DIR="$target/kernels" NUMBA_CPU_NAME=generic NUMBA_CACHE_LOCATOR_CLASSES='' python "$here/compile_kernels.py"
rm -r "$HOME"
