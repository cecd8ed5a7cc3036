#!/usr/bin/env bash
# Ends a flow:  examples/grpc/stop_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/StopFlow "{\"flow_id\": \"$1\"}"
