#!/usr/bin/env bash
# Changes of schema:  examples/grpc/list_ddl.sh [pending|approved|rejected|applied]
. "$(dirname "$0")/common.sh"

call DDLService/ListDDL "{\"status\": \"${1:-}\"}"
