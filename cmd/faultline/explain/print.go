// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"strings"

	"github.com/faultline-rpc/faultline/internal/text"
)

const (
	width = 88 // of a line, in bytes
	label = 14 // of the first column
)

// Text is a result for people, a page of a few dozen lines.
func (r Result) Text() string {
	var p printer
	switch {
	case r.Circumstance != nil:
		p.circumstance(r.Circumstance)
	case r.Kind == KindCode:
		p.code(r.Code)
	case r.Kind == KindUnknown:
		p.unknown(r)
	default:
		p.text(r)
	}
	return p.String()
}

type printer struct{ strings.Builder }

func (p *printer) para(name, words string) {
	if words == "" {
		return
	}
	for i, l := range text.Wrap(words, width-label) {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(p, "%-*s%s\n", label, name, l)
	}
}

func (p *printer) circumstance(c *Page) {
	fmt.Fprintf(p, "%s: %s\n\n", c.ID, c.Summary)
	p.para("layer", c.Layer.String())
	names := strings.Join(c.Codes, ", ")
	if names == "" {
		names = "any: the application's, or an earlier attempt's"
	}
	p.para("code", names)
	p.para("raised by", c.RaisedBy)
	p.para("processed", c.Processed)
	p.WriteString("\n")
	p.para("cause", c.Cause)
	p.WriteString("\n")
	p.para("remedy", c.Remedy)
	p.WriteString("\n")
	p.para("spec", c.Spec)
}

func (p *printer) code(c *CodePage) {
	fmt.Fprintf(p, "%s (%d): %s\n\n", c.Name, c.Number, c.Meaning)
	p.para("raised by", c.By)
	p.para("again", c.Retry)
	p.para("as HTTP", fmt.Sprint(c.HTTP))
	if len(c.Circumstances) == 0 {
		return
	}
	p.WriteString("\nCircumstances that carry it (faultline explain ID tells more):\n\n")
	p.list(c.Circumstances)
}

func (p *printer) list(all []Listed) {
	wide := 0
	for _, c := range all {
		wide = max(wide, len(c.ID))
	}
	for _, c := range all {
		fmt.Fprintf(p, "  %-*s  %s\n", wide, c.ID, c.Summary)
	}
}

func (p *printer) text(r Result) {
	for i, f := range r.Phrases {
		name := ""
		if i == 0 {
			name = "recognized"
		}
		p.para(name, fmt.Sprintf("%q, %s", f.Found, saidBy(f.From)))
		if f.Source != "" {
			fmt.Fprintf(p, "%-*s%s\n", label, "", f.Source)
		}
	}
	if r.Code != nil {
		p.para("code", fmt.Sprintf("%s (%d): %s", r.Code.Name, r.Code.Number, r.Code.Meaning))
	}
	p.WriteString("\n" + heading(r) + "\n")
	for i, c := range r.Candidates {
		fmt.Fprintf(p, "\n%d. %s: %s\n", i+1, c.ID, c.Summary)
		p.para("   tell by", c.Tell)
		p.para("   remedy", c.Remedy)
	}
}

func saidBy(stacks []string) string {
	switch {
	case len(stacks) == 1:
		return "as " + stacks[0] + " says"
	case len(stacks) > 4:
		return "as most stacks say"
	}
	return "as " + strings.Join(stacks, ", ") + " say"
}

func heading(r Result) string {
	switch {
	case len(r.Phrases) == 0:
		return "The text is not in the phrase book. Its code suggests, the likeliest first\n(faultline explain " + r.Code.Name + " lists all that carry it):"
	case r.Candidates[0].Certain:
		return "The text names what went wrong:"
	case len(r.Candidates) == 1:
		return "It means:"
	}
	return "It can mean, the likeliest first:"
}

func (p *printer) unknown(r Result) {
	p.WriteString("Nothing in this text is known: no circumstance, no code, no phrase of a gRPC stack.\n")
	if r.Nearest != "" {
		fmt.Fprintf(p, "Did you mean %q?\n", r.Nearest)
	}
	p.WriteString("\nPaste the whole error, or ask the server itself: faultline call -v HOST:PORT pkg.Service/Method.\n")
}
