#!/usr/bin/env bash
# Approves a change of schema:  examples/grpc/approve_ddl.sh NUMBER
. "$(dirname "$0")/common.sh"

need NUMBER "${1:-}"
call DDLService/ApproveDDL "{\"id\": $1}"
