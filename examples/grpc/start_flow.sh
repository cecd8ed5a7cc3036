#!/usr/bin/env bash
# Sets a flow running:  examples/grpc/start_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/StartFlow "{\"flow_id\": \"$1\"}"
