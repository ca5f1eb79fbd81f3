#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes conformancev1 from the protos of connectconformance; see doc.go.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
version=$(sed -n 's/^const suiteVersion = "\(.*\)".*/\1/p' ../../connect/run.go)
protos=$(go mod download -json "connectrpc.com/conformance@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/proto
module=github.com/faultline-rpc/faultline/conformance/internal/gen
files=() args=()
for f in config service client_compat server_compat; do
	f=connectrpc/conformance/v1/$f.proto
	files+=("$f")
	args+=(--go_opt="M$f=$module/conformancev1" --go-grpc_opt="M$f=$module/conformancev1")
done
protoc -I "$protos" "${args[@]}" --go_out=. --go_opt=module="$module" --go-grpc_out=. --go-grpc_opt=module="$module" "${files[@]}"
