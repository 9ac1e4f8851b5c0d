// Package raw has the codec of messages that are bytes as they are.
package raw

type Codec struct{}

func (Codec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (Codec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil }
func (Codec) Name() string                    { return "proto" }
