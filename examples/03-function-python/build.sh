#!/bin/sh
# Puts function.py and CPython into one component. The tool is installed beside it, once.
set -eu
if [ ! -x .venv/bin/componentize-py ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
fi
mkdir -p dist
.venv/bin/componentize-py -q -d ../../wit/functions -w function componentize function -o dist/function.wasm
