// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/grpclog"
)

// The official cases report a failure through grpclog's Fatalf, which ends the
// process. A logger whose Fatal panics instead lets the next case run; guard
// recovers it. It has to be in place before anything of grpc-go runs.
func init() { grpclog.SetLoggerV2(fatal{}) }

// failure is what a case's Fatalf said.
type failure string

// guard turns a Fatalf, or any other panic of f, into an error.
func guard(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", string(r))
		default:
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	f()
	return nil
}

// fatal is a grpclog.LoggerV2 (and DepthLoggerV2) that keeps nothing but Fatal.
type fatal struct{}

func (fatal) Info(...any)                {}
func (fatal) Infoln(...any)              {}
func (fatal) Infof(string, ...any)       {}
func (fatal) InfoDepth(int, ...any)      {}
func (fatal) Warning(...any)             {}
func (fatal) Warningln(...any)           {}
func (fatal) Warningf(string, ...any)    {}
func (fatal) WarningDepth(int, ...any)   {}
func (fatal) Error(...any)               {}
func (fatal) Errorln(...any)             {}
func (fatal) Errorf(string, ...any)      {}
func (fatal) ErrorDepth(int, ...any)     {}
func (fatal) V(int) bool                 { return false }
func (fatal) Fatal(a ...any)             { panic(failure(fmt.Sprint(a...))) }
func (fatal) Fatalln(a ...any)           { panic(failure(strings.TrimSpace(fmt.Sprintln(a...)))) }
func (fatal) Fatalf(f string, a ...any)  { panic(failure(fmt.Sprintf(f, a...))) }
func (fatal) FatalDepth(_ int, a ...any) { panic(failure(strings.TrimSpace(fmt.Sprintln(a...)))) }
