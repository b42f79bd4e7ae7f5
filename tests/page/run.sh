#!/bin/sh
# The page's tests: installs what is missing, runs them.
# run.sh [--bin DIR] [--shots DIR] [--long] [--again] [NAME…]; 77: no browser can be installed
set -eu
cd "$(dirname "$0")/../.."
tools/deps --page || exit 77
exec node tests/page/run.mjs "$@"
