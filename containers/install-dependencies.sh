#!/bin/sh
# Make the environment /opt/bids-parcellate with exactly what requirements.lock names. Run in the folder of the sources.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
target=/opt/bids-parcellate
wheels=$(mktemp -d)

# First everything as a wheel, checked against the lock's hashes; sources are built with the locked tools only.
python -m pip install --quiet --require-hashes --no-compile -r containers/build.lock
python -m pip wheel --quiet --require-hashes --no-build-isolation --wheel-dir "$wheels" -r requirements.lock
python -m venv --without-pip "$target"
python -m pip --python "$target" install --quiet --no-index --no-deps --no-compile "$wheels"/*.whl
rm -r "$wheels"

# A quarter of that is never read: tests and what only they load, sources and types of compiled modules, sample data, databases other
# than SQLite, symbols for debuggers. Libraries that wheels bring along in *.libs were relocated and must not be stripped.
find "$target/lib" -depth -type d \( -name tests -o -path '*/joblib/test' -o -path '*/sqlalchemy/testing' \) -exec rm -r {} +
find "$target/lib" -depth -type d -regextype posix-extended \
    -regex '.*/(sklearn/datasets/(data|descr|images)|sqlalchemy/dialects/(mssql|mysql|oracle|postgresql))' -exec rm -r {} +
find "$target/lib" -type f -regextype posix-extended -regex '.*\.(c|cpp|cc|h|hpp|pyx|pxd|pxi|pyi|a|tp)' -delete
find "$target/lib" -type f -regextype posix-extended -regex '.*/(_simd|_[a-z_]+_tests|_test_[a-z_]+|_cy?test)\.cpython.*\.so' -delete
apt-get -qq update
apt-get -qq install --yes --no-install-recommends binutils >/dev/null
find "$target/lib" -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
apt-get -qq purge --yes --auto-remove binutils >/dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
