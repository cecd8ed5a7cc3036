#!/usr/bin/env bash
# Lets it go on:  examples/grpc/resume_flow.sh FLOW-ID
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call FlowService/ResumeFlow "{\"flow_id\": \"$1\"}"
