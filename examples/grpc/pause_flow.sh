#!/usr/bin/env bash
# Lets a flow rest:  examples/grpc/pause_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/PauseFlow "{\"flow_id\": \"$1\"}"
