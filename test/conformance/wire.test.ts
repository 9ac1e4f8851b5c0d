import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PROGRAMS, type Program, SPIRE_IS_MISSING, sideBySide } from '../support/side-by-side.ts'

/** Malformed calls, byte by byte: what our server answers to each, and a SPIRE server. */
if (SPIRE_IS_MISSING) console.warn('SPIRE_BIN is not set: answers to malformed calls are NOT compared with SPIRE')

const both = sideBySide({})
beforeAll(async () => void (await both.start()), 30_000)
afterAll(() => both.stop())

const COUNT = '/spire.api.server.entry.v1.Entry/CountEntries'
const LIST = '/spire.api.server.entry.v1.Entry/ListEntries'
const CREATE = '/spire.api.server.entry.v1.Entry/BatchCreateEntry'
const WATCH = '/grpc.health.v1.Health/Watch'

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')
/** A message with its prefix. */
const frame = (hex: string, flag = 0) => {
  const message = bytes(hex)
  const prefix = Buffer.from([flag, 0, 0, 0, 0])
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

/** @returns status and text */
function call(program: Program, path: string, body: Uint8Array): Promise<string> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(both.socket(program)) })
  return new Promise((resolve, reject) => {
    session.on('error', reject)
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const found: Record<string, unknown> = {}
    stream.on('response', (headers) => Object.assign(found, headers))
    stream.on('trailers', (headers) => Object.assign(found, headers))
    stream.on('error', () => {})
    stream.resume()
    stream.on('close', () => {
      session.destroy()
      // Each build of protobuf for Go has a space there, or one that does not break.
      const text = decodeURIComponent(String(found['grpc-message'] ?? '')).replace('proto:\u00a0', 'proto: ')
      resolve(`${found['grpc-status']} ${text}`)
    })
    stream.end(body)
  })
}

const UNARY = '13 grpc: error unmarshalling request:'
const STREAM = '13 grpc: failed to unmarshal the received message:'
const MALFORMED = 'proto: cannot parse invalid wire-format data'
const NOT_UTF8 = 'string field contains invalid UTF-8'

describe.each(PROGRAMS)('%s', (program) => {
  test.each<[string, string, Uint8Array, string]>([
    ['a call', COUNT, frame(''), '0 '],
    ['field zero', COUNT, frame('00'), `${UNARY} ${MALFORMED}`],
    ['the end of a group that did not begin', COUNT, frame('0c'), `${UNARY} ${MALFORMED}`],
    ['a field that is cut off', COUNT, frame('0a05'), `${UNARY} ${MALFORMED}`],
    ['a token that is not UTF-8', LIST, frame('2202ffff'), `${UNARY} ${NOT_UTF8}`],
    ['a trust domain that is not UTF-8', CREATE, frame('0a06 1204 0a02ffff'), `${UNARY} ${NOT_UTF8}`],
    ['a filter with another wire type', LIST, frame('0801'), '0 '],
    [
      'a filter in two pieces',
      LIST,
      frame('0a070a050a03612e62 0a050a03120178'),
      '3 malformed SPIFFE ID filter: path must have a leading slash',
    ],
    ['no message', COUNT, bytes(''), '2 EOF'],
    ['half a prefix', COUNT, bytes('000000'), '2 EOF'],
    ['half a message', COUNT, bytes('0000000002 0a'), '2 unexpected EOF'],
    ['a prefix without its message', COUNT, bytes('0000000002'), '2 unexpected EOF'],
    ['two messages', COUNT, Buffer.concat([frame(''), frame('00')]), '0 '],
    ['a message and half a prefix', COUNT, Buffer.concat([frame(''), bytes('0000')]), '0 '],
    ['an unknown flag', COUNT, frame('', 2), '13 grpc: received unexpected payload format 2'],
    ['a compressed message', COUNT, frame('', 1), '13 grpc: compressed flag set with identity or empty encoding'],
    ['a path of one slash', '/', frame(''), '12 malformed method name: "/"'],
    ['a path of one part', '/abc', frame(''), '12 malformed method name: "/abc"'],
    ['a path with quotes', '/a"b\\', frame(''), '12 malformed method name: "/a\\"b\\\\"'],
    ['no method', '/grpc.health.v1.Health/', frame(''), '12 unknown method  for service grpc.health.v1.Health'],
    [
      'an unknown method',
      '/grpc.health.v1.Health/No',
      frame(''),
      '12 unknown method No for service grpc.health.v1.Health',
    ],
    ['an unknown service', '/no.No/No', frame(''), '12 unknown service no.No'],
    ['a path of three parts', '/a/b/c', frame(''), '12 unknown service a/b'],
    ['a path with a query', `${WATCH}?x=1`, frame(''), '12 unknown method Watch?x=1 for service grpc.health.v1.Health'],
    ['a stream: field zero', WATCH, frame('00'), `${STREAM} ${MALFORMED}`],
    ['a stream: not UTF-8', WATCH, frame('0a01ff'), `${STREAM} ${NOT_UTF8}`],
    ['a stream: half a message', WATCH, bytes('0000000002 0a'), '13 unexpected EOF'],
    [
      'a stream: no message',
      WATCH,
      bytes(''),
      '13 cardinality violation: received no request message from non-client-streaming RPC',
    ],
    [
      'a stream: two messages',
      WATCH,
      Buffer.concat([frame(''), frame('')]),
      '13 cardinality violation: received multiple request messages for non-client-streaming RPC',
    ],
  ])('%s', async (_, path, body, expected) => {
    expect(await call(program, path, body)).toBe(expected)
  })
})
