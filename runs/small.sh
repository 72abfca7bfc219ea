#!/usr/bin/env bash
# small, on one GPU, from nothing; see train.sh for DIAL and DATA.
exec "$(dirname "$0")/train.sh" small cuda
