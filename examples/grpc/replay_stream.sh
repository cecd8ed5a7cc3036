#!/usr/bin/env bash
# Has messages delivered to a group again:  examples/grpc/replay_stream.sh STREAM GROUP SINCE
# SINCE is a time such as 2025-01-01T00:00:00Z.
. "$(dirname "$0")/common.sh"

need 'STREAM GROUP SINCE' "${3:-}"
call StreamService/Replay "{\"stream\": \"$1\", \"consumer_group\": \"$2\", \"since\": \"$3\"}"
