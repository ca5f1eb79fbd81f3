// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/faultline-rpc/faultline/internal/text"
)

// The widths of lines, in columns.
const (
	plainWidth = 110 // where there is no terminal
	minWidth   = 60
	maxWidth   = 120
)

// widthOf is how wide lines on w should be.
func widthOf(w io.Writer) int {
	if n := terminalWidth(w); n > 0 {
		return n
	}
	return plainWidth
}

// terminalWidth is how wide lines should be on w if it is a terminal, else 0.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n := columns(f)
	if n <= 0 {
		return 0
	}
	return max(minWidth, min(n, maxWidth))
}

// fold breaks the lines of a ladder that are longer than a terminal is wide,
// and indents what goes on beneath what it belongs to.
func fold(ladder string, width int) string {
	var out strings.Builder
	for line := range strings.Lines(ladder) {
		line = strings.TrimSuffix(line, "\n")
		at := hanging(line)
		whole := strings.Contains(line, "://") && !strings.Contains(line[at:], " ") // an address in pieces is of no use
		if utf8.RuneCountInString(line) <= width || at >= width/2 || whole {
			out.WriteString(line + "\n")
			continue
		}
		for i, piece := range text.Wrap(line[at:], width-at) {
			if i == 0 {
				out.WriteString(line[:at] + piece + "\n")
			} else {
				out.WriteString(strings.Repeat(" ", at) + piece + "\n")
			}
		}
	}
	return out.String()
}

// hanging is the column at which the text of a ladder's line begins: behind
// its label, or its indent. A line without either has none.
func hanging(line string) int {
	rest := strings.TrimLeft(line, " ")
	if rest == line {
		return 0
	}
	indent := len(line) - len(rest)
	if label := strings.Index(rest, "  "); label >= 0 && label < 14 { // "caused by     "
		text := strings.TrimLeft(rest[label:], " ")
		return len(line) - len(text)
	}
	return indent
}
