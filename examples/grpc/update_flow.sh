#!/usr/bin/env bash
# Replaces a flow's definition; state, position and slot stay:  examples/grpc/update_flow.sh FLOW-ID REQUEST.json
# The request has the form of examples/flows/*.json: only its flow is sent.
. "$(dirname "$0")/common.sh"

need 'FLOW-ID REQUEST.json' "${2:-}"
request=$(sed 's/"id": "[^"]*"/"id": "'"$1"'"/' "$2")
call FlowService/UpdateFlow "${request%,*}}"
