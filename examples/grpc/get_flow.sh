#!/usr/bin/env bash
# Shows a flow:  examples/grpc/get_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/GetFlow "{\"flow_id\": \"$1\"}"
