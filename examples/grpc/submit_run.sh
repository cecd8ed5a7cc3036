#!/usr/bin/env bash
# Enqueues a run of a flow:  examples/grpc/submit_run.sh FLOW-ID [KIND]
. "$(dirname "$0")/common.sh"

need FLOW-ID "${1:-}"
call RunService/SubmitRun "{\"flow_id\": \"$1\", \"kind\": \"${2:-flow-once}\"}"
