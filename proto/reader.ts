import { BinaryReader } from '@bufbuild/protobuf/wire'

/**
 * Decodes a message from outside as strictly as protobuf for Go where the generated code is lenient: a string that is
 * not UTF-8 and bytes after a stray end-group or zero tag are errors. Truncated input, varints that do not end and
 * integers beyond 2^53 are errors of the generated code already.
 *
 * Fields of type bytes are views of `bytes`: the caller must not write to it afterwards. They are plain Uint8Arrays even
 * where `bytes` is a Buffer, whose `slice` would not copy.
 *
 * @throws Error, RangeError or TypeError if the input is malformed
 */
export function decodeStrict<T>(type: { decode(reader: BinaryReader): T }, bytes: Uint8Array): T {
  const reader = new StrictReader(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const message = type.decode(reader)
  if (reader.pos !== reader.len) throw new Error(`message ends at byte ${reader.pos} of ${reader.len}`)
  return message
}

class StrictReader extends BinaryReader {
  override string(): string {
    return super.string(true)
  }
}
