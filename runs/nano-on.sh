#!/usr/bin/env bash
# nano, on two CPU cores, on from the weights that ship; see train.sh for DIAL and DATA.
START=interplay/data/nano.safetensors exec "$(dirname "$0")/train.sh" nano-on cpu 2
