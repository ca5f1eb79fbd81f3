// SPDX-License-Identifier: Apache-2.0

// Package invoke makes calls to methods that this program was not compiled with: descriptors come from the server's reflection or from files, messages from JSON.
//
// A [Source] finds descriptors: [Reflection] asks the server (v1, then
// v1alpha), [Files] reads .proto files and descriptor sets. [Call] makes a
// call of any of the four kinds. Errors of calls are the client's own, as a
// rule a *fault.Fault; the package adds none.
//
// It belongs to the command faultline and carries no compatibility promise.
package invoke
