import { BinaryReader } from '@bufbuild/protobuf/wire'

/**
 * A reader for the generated code that ends with an error once it has read so many tags and lengths, nested ones included: what a message
 * becomes in memory is bounded by its fields, and an empty field is two bytes.
 */
export function boundedReader(bytes: Uint8Array, maxNumbers: number): BinaryReader {
  const reader = new BinaryReader(bytes)
  const read = reader.uint32
  let left = maxNumbers
  reader.uint32 = function (this: BinaryReader) {
    left -= 1
    if (left < 0) throw new RangeError('the message has too many fields')
    return read.call(this)
  }
  return reader
}
