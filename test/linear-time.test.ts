import { expect, test } from 'vitest'
import { jsonToWire } from '../proto/json.ts'
import { MESSAGES } from '../proto/json-schema.ts'
import { parseJson } from '../proto/json-text.ts'
import { parseDuration } from '../src/config/duration.ts'
import { parseHcl } from '../src/config/hcl.ts'
import { fromBase64, fromBase64Url } from '../src/core/base64.ts'
import { parseBundleDocument } from '../src/core/bundle-document.ts'
import { parseIpAddress, parseIpNetwork } from '../src/core/ip-address.ts'
import { parseJwt } from '../src/core/jwt-svid.ts'
import { decodePem } from '../src/core/pem.ts'
import { parseSpiffeId } from '../src/core/spiffe-id.ts'
import { parseTrustDomain } from '../src/core/trust-domain.ts'
import { csrOf } from '../src/http/exchange-text.ts'
import { parseAgentPathTemplate } from '../src/plugins/nodeattestor/agent-path-template.ts'
import { addressWithoutPort } from '../src/rpc/rate-limit.ts'
import { requireDnsName, requireNoWildcardOverlap } from '../src/server/dns-name.ts'
import { codecOf } from '../src/transport/connect-codec.ts'
import { readEnvelopes } from '../src/transport/connect-protocol.ts'
import { parseGrpcTimeout } from '../src/transport/grpc-status.ts'
import { nonceOf } from '../src/transport/http-signature.ts'
import { parseSignatureInput, tagOf } from '../src/transport/message-signature.ts'

/**
 * Text from outside costs time by its length: twice the text, less than three times the time, whatever it is made of. Each reader gets its
 * text in the middle of something that it takes, and made of what its grammar repeats.
 */

/** What makes careless expressions go back. */
const FILLERS = [
  'a',
  '=',
  ' ',
  '\t\n',
  '"',
  '\\',
  '(',
  '{',
  '[',
  ',',
  ';a=1',
  ';a="',
  '/',
  '//',
  '.',
  ':',
  '-',
  '@',
  '%',
  'A=',
  '\n',
  'é',
  '*.',
  '$',
  '\\"',
  '::',
]
const SIZE = 24_000

type Reader = (text: string) => unknown

const bytes = (text: string) => new TextEncoder().encode(text)
const header = (name: string, value: string) => new Headers([[name, value.replace(/[^\x20-\x7e]/g, 'x')]])

const READERS: Readonly<Record<string, Reader>> = {
  base64: (text) => fromBase64(`AAAA${text}=`),
  base64url: (text) => fromBase64Url(`AAAA${text}`),
  'a JWT': (text) => parseJwt(`e30.${text}.e30`),
  'a PEM file': (text) => decodePem(`-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE----`),
  'a PEM label': (text) => decodePem(`-----BEGIN ${text}-----\nAAAA\n-----END ${text}-----\n`),
  'a CSR as text': (text) => csrOf(`AAAA${text}`),
  'a SPIFFE ID': (text) => parseSpiffeId(`spiffe://example.org/${text}`),
  'a trust domain': (text) => parseTrustDomain(text),
  'an IP address': (text) => parseIpAddress(text),
  'an IP network': (text) => parseIpNetwork(`${text}/24`),
  'an address with a port': (text) => addressWithoutPort(`${text}:80`),
  'a configuration': (text) => parseHcl(`server { a = "${text}" }`),
  'a configuration without quotes': (text) => parseHcl(`server { ${text} }`),
  'a bundle document': (text) => parseBundleDocument('example.org' as never, `{"keys":[{"kty":"${text}"}]}`),
  'a signature input': (text) => parseSignatureInput(`wimse=("@method");created=1${text}`, 'x'),
  'a tag': (text) => tagOf(header('signature-input', `wimse=("@method");tag=${text}`)),
  'a nonce': (text) => nonceOf(header('signature-input', `;nonce=${text}`)),
  'a content type': (text) => codecOf(`application/json;${text}`, { path: '/x', kind: 'unary' }),
  'a timeout': (text) => parseGrpcTimeout(`${text}S`),
  envelopes: (text) => readEnvelopes(bytes(text)),
  'a DNS name': (text) => requireDnsName(`a.${text}`),
  'a wildcard among names': (text) => requireNoWildcardOverlap([`*.${text}`, `a.${text}`]),
  'a duration': (text) => parseDuration(`1h${text}`),
  'a path template': (text) => parseAgentPathTemplate(`{{ .Fingerprint }}${text}`, ['Fingerprint']),
  'a path template’s field': (text) => parseAgentPathTemplate(`{{${text}}}`, ['Fingerprint']),
  JSON: (text) => parseJson(bytes(`{"a":"${text}"}`)),
  'JSON without quotes': (text) => parseJson(bytes(`{"a":[${text}`)),
}

function run(read: Reader, text: string): void {
  try {
    read(text)
  } catch {
    // Refused: how long it took is what counts.
  }
}

/** The least CPU time of some runs, milliseconds. */
function cost(read: Reader, text: string): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3; round++) {
    const start = process.cpuUsage()
    run(read, text)
    const { user, system } = process.cpuUsage(start)
    least = Math.min(least, (user + system) / 1000)
  }
  return least
}

/** Less is not measured well, and nobody is hurt by it. */
const NOTHING_MS = 15

function expectLinear(read: Reader, filler: string): void {
  const once = filler.repeat(Math.ceil(SIZE / filler.length))
  // A quadratic reader of this much takes seconds: it is seen without measuring the half.
  const double = cost(read, once + once)
  if (double < NOTHING_MS) return
  // Other work on the machine slows one of the two at times, but not each time.
  const ratios = [double / Math.max(cost(read, once), NOTHING_MS / 3)]
  while (ratios.at(-1)! >= 3 && ratios.length < 4)
    ratios.push(cost(read, once + once) / Math.max(cost(read, once), NOTHING_MS / 3))
  expect(Math.min(...ratios)).toBeLessThan(3)
}

test.each(Object.keys(READERS))('reading %s takes time by its length', (name) => {
  for (const filler of FILLERS) expectLinear(READERS[name]!, filler)
})

test('reading a field of any message from JSON takes time by its length', () => {
  for (const [type, fields] of Object.entries(MESSAGES)) {
    for (const row of fields.split(',').filter(Boolean)) {
      const [name = '', , kind = ''] = row.split(' ')
      if (!['string', 'bytes', '*string', '*bytes'].includes(kind)) continue
      const read: Reader = (text) => {
        const value = JSON.stringify(text)
        return jsonToWire(type, bytes(`{"${name}":${kind.startsWith('*') ? `[${value}]` : value}}`))
      }
      for (const filler of ['=', 'A=', 'a', ' ', '\\', '"']) expectLinear(read, filler)
      if (kind.endsWith('bytes')) expectLinear((text) => read(`A${text}A`), '=')
    }
  }
})
