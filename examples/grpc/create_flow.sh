#!/usr/bin/env bash
# Creates a flow and prints it:  examples/grpc/create_flow.sh [REQUEST.json]
# The request is one of examples/flows/*.json. ID=... gives the flow another id, START=false leaves it alone.
. "$(dirname "$0")/common.sh"

request=$(<"${1:-$root/examples/flows/postgres-to-ducklake.json}")
[ -z "${ID:-}" ] || request=$(sed 's/"id": "[^"]*"/"id": "'"$ID"'"/' <<<"$request")
[ -z "${START:-}" ] || request=$(sed 's/"start_immediately": [a-z]*/"start_immediately": '"$START"'/' <<<"$request")
call FlowService/CreateFlow "$request"
