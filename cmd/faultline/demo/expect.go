// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed expect.json
var expectJSON []byte

// Row is one row of the error table.
type Row struct {
	// Number counts the document's rows from 1 on.
	Number int `json:"number"`
	// Group is the document's heading.
	Group string `json:"group"`
	// Circumstance is the document's wording, and Code its code.
	Circumstance string `json:"circumstance"`
	Code         string `json:"code"`
	// Source is where it stands.
	Source string `json:"source"`
	// Cases are the ways in which the row is provoked.
	Cases []Case `json:"cases"`
}

// Case is one way to provoke a row, and what is expected of it.
type Case struct {
	// Name finds what to do.
	Name string `json:"name"`
	// Role is which of our ends observes the failure: "client" or "server".
	Role string `json:"role"`
	// Expected is what it has to observe.
	Expected Outcome `json:"expected"`
	// Why says where the expectation comes from, if that is not the row's source.
	Why string `json:"why,omitempty"`
}

// Outcome is a failure in the catalogue's terms.
type Outcome struct {
	ID        string `json:"id"`
	Code      string `json:"code"`
	Layer     string `json:"layer"`
	Side      string `json:"side"`
	Processed string `json:"processed"`
}

// Load reads the embedded data file. The error says what is wrong with it.
func Load() ([]Row, error) { return parse(expectJSON) }

func parse(text []byte) ([]Row, error) {
	var file struct {
		Document string `json:"document"`
		Rows     []Row  `json:"rows"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("expect.json: %w", err)
	}
	for i := range file.Rows {
		r := &file.Rows[i]
		if r.Source == "" {
			r.Source = file.Document
		}
		if r.Number != i+1 {
			return nil, fmt.Errorf("expect.json: row %d has the number %d", i+1, r.Number)
		}
		for _, c := range r.Cases {
			if c.Expected.Code != r.Code {
				return nil, fmt.Errorf("expect.json: case %s expects %s, its row %s", c.Name, c.Expected.Code, r.Code)
			}
			if c.Role != client && c.Role != server {
				return nil, fmt.Errorf("expect.json: case %s has the role %q, want client or server", c.Name, c.Role)
			}
		}
	}
	return file.Rows, nil
}

// The roles of a [Case].
const (
	client = "client"
	server = "server"
)
