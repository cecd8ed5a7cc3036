#!/usr/bin/env bash
# Lists flows, a page at a time:  examples/grpc/list_flows.sh [PAGE-SIZE [PAGE-TOKEN]]
. "$(dirname "$0")/common.sh"

call FlowService/ListFlows "{\"page_size\": ${1:-100}, \"page_token\": \"${2:-}\"}"
