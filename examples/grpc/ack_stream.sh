#!/usr/bin/env bash
# Acknowledges messages:  examples/grpc/ack_stream.sh STREAM GROUP 1,2,3
. "$(dirname "$0")/common.sh"

need 'STREAM GROUP IDS' "${3:-}"
call StreamService/Ack "{\"stream\": \"$1\", \"consumer_group\": \"$2\", \"ids\": [$3]}"
