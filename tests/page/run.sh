#!/bin/sh
# The page's tests: installs what is missing, runs them. run.sh [--bin DIR] [--shots DIR] [--long] [NAME…]
set -eu
cd "$(dirname "$0")/../.."
tools/deps --page
exec node tests/page/run.mjs "$@"
