# Sourced by the scripts beside it: `call SERVICE/METHOD JSON` by a real grpcurl.
#
#   ADDR=localhost:8080   the server
#   TOKEN=...             sent as a bearer token, through grpcurl's environment, not on its command line
#   TLS=1 CA=FILE         TLS, and whose certificates are believed; without them: plain text
#   REFLECTION=1          ask the server for its protos (DUCTSTREAM_GRPC_REFLECTION=true) instead of reading proto/
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$PATH:${DUCTSTREAM_CACHE:-$root/.cache}/bin"

call() {
	local method=$1 data=${2:-'{}'} options=()
	local file=${method%%Service/*}
	command -v grpcurl >/dev/null || {
		echo "grpcurl is missing: tools/setup --servers fetches it, or see github.com/fullstorydev/grpcurl" >&2
		return 1
	}
	if [ -n "${TLS:-}" ]; then
		[ -z "${CA:-}" ] || options+=(-cacert "$CA")
	else
		options+=(-plaintext)
	fi
	if [ -z "${REFLECTION:-}" ]; then
		options+=(-import-path "$root/proto" -proto "ductstream/v1/${file,,}.proto")
	fi
	if [ -n "${TOKEN:-}" ]; then
		options+=(-expand-headers -H 'authorization: Bearer ${TOKEN}')
		export TOKEN
	fi
	grpcurl "${options[@]}" -d "$data" "${ADDR:-localhost:8080}" "ductstream.v1.$method"
}

# The first argument of the script, or the variable; the name is for people.
need() {
	[ -n "${2:-}" ] || {
		echo "usage: ${0##*/} $1" >&2
		exit 2
	}
}
