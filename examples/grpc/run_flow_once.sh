#!/usr/bin/env bash
# Runs a flow until it has caught up:  examples/grpc/run_flow_once.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/RunFlowOnce "{\"flow_id\": \"$1\"}"
