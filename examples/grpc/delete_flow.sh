#!/usr/bin/env bash
# Forgets a flow:  examples/grpc/delete_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/DeleteFlow "{\"flow_id\": \"$1\"}"
