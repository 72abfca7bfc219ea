#!/usr/bin/env bash
# nano, on two CPU cores, from nothing; see train.sh for DIAL and DATA.
exec "$(dirname "$0")/train.sh" nano cpu 2
