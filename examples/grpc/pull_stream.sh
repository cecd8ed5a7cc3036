#!/usr/bin/env bash
# Takes messages of a stream for a group:  examples/grpc/pull_stream.sh STREAM GROUP [MAX [SECONDS]]
. "$(dirname "$0")/common.sh"

need 'STREAM GROUP' "${2:-}"
call StreamService/Pull "{\"stream\": \"$1\", \"consumer_group\": \"$2\", \"max_messages\": ${3:-10}, \"visibility_timeout_seconds\": ${4:-30}}"
