#!/usr/bin/env bash
# Creates a flow and prints it with its id:  examples/grpc/create_flow.sh [REQUEST.json]
# The request is one of examples/flows/*.json. ID=... gives the flow that id; START=1 sets it running.
. "$(dirname "$0")/common.sh"

request=$(<"${1:-$root/examples/flows/postgres-to-ducklake.json}")
[ -z "${ID:-}" ] || request=${request/'"flow": {'/'"flow": {"id": "'"$ID"'",'}
[ -z "${START:-}" ] || request=${request/'"start_immediately": false'/'"start_immediately": true'}
call FlowService/CreateFlow "$request"
