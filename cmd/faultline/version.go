// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/faultline-rpc/faultline"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Long: "version prints Faultline's version, and Go's and the system it was built for.",
		Example: "  faultline version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText())
			return err
		},
	}
}

// versionText is one line.
func versionText() string {
	return fmt.Sprintf("faultline %s (%s, %s/%s)\n", faultline.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
