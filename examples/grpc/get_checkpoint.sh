#!/usr/bin/env bash
# Where a flow is:  examples/grpc/get_checkpoint.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call CheckpointService/GetCheckpoint "{\"flow_id\": \"$1\"}"
