// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// maxDelimited bounds a message of the runner, in bytes. The largest that
// v1.0.7 sends is about 1 MiB.
const maxDelimited = 64 << 20

// readDelimited reads a message that follows its size, four bytes in network
// order. It returns io.EOF at the end of r, and io.ErrUnexpectedEOF when r ends
// inside a message.
func readDelimited(r io.Reader, m proto.Message) error {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxDelimited {
		return fmt.Errorf("a message of %d bytes is announced, want at most %d", size, maxDelimited)
	}
	// Not allocated before it has come: the size may be garbage.
	b, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil {
		return err
	}
	if len(b) < int(size) {
		return io.ErrUnexpectedEOF
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("what was read is no %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// writeDelimited writes what readDelimited reads, with one Write.
func writeDelimited(w io.Writer, m proto.Message) error {
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return err
	}
	if len(b)-4 > maxDelimited {
		return errors.New("the message is too large to be written")
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = w.Write(b)
	return err
}
