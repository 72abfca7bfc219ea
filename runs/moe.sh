#!/usr/bin/env bash
# moe, on two CPU cores, from nothing; see train.sh for DIAL and DATA.
exec "$(dirname "$0")/train.sh" moe cpu 2
