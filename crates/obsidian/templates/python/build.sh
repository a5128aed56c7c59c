#!/bin/sh
# Makes the component: the Python interpreter, app.py and what the world `function` imports.
set -eu
if [ ! -x .venv/bin/componentize-py ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
fi
mkdir -p dist
.venv/bin/componentize-py --wit-path wit --world function componentize app --output dist/app.wasm
