import { expect, test } from 'vitest'
import { AT, type Constraints, makeCertificate, makeExtension, type OddCertificate } from '../../test/support/x509.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import { parseCertificate } from './certificate.ts'
import { element, sequence, utf8 } from './der.ts'
import { verifyPath } from './path-validation.ts'

const [EMAIL, DNS, URI, IP, REGISTERED_ID] = [1, 2, 6, 7, 8] as const
const verify = nodeVerifier()

/** A leaf below an intermediate below a root; constraints may be on either. */
async function outcome(leaf: Partial<OddCertificate>, onMiddle?: Constraints, onRoot?: Constraints, middle = {}) {
  const root = await makeCertificate({ name: 'root', ca: true, ...(onRoot && { constraints: onRoot }) })
  const between = await makeCertificate(
    { name: 'middle', ca: true, ...(onMiddle && { constraints: onMiddle }), ...middle },
    root,
  )
  const { der } = await makeCertificate({ name: 'leaf', ...leaf }, between)
  try {
    const intermediates = [parseCertificate(between.der)]
    await verifyPath({
      leaf: parseCertificate(der),
      intermediates,
      roots: [parseCertificate(root.der)],
      at: AT,
      verify,
    })
    return 'taken'
  } catch (error) {
    return (error as Error).message
  }
}

const uris = (...texts: string[]) => ({ uris: texts })
const dnsNames = (...names: string[]) => ({ dnsNames: names })
const ips = (...addresses: number[][]) => ({ ips: addresses })
const EXCLUDED = /is excluded by a constraint$/
const NOT_PERMITTED = /is not permitted by any constraint$/
const UNMATCHABLE = /a name cannot be matched against (permitted|excluded) constraints$/

test.each<[string, Partial<OddCertificate>, Constraints, RegExp | 'taken']>([
  ['a URI of an excluded host', uris('spiffe://example.org/a'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  ['in capitals', uris('spiffe://EXAMPLE.org/a'), { excluded: [[URI, 'example.ORG']] }, EXCLUDED],
  ['below an excluded host', uris('spiffe://a.example.org/a'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  ['below an excluded domain', uris('spiffe://a.example.org/a'), { excluded: [[URI, '.example.org']] }, EXCLUDED],
  ['every URI excluded', uris('spiffe://example.org/a'), { excluded: [[URI, '']] }, EXCLUDED],
  ['the second of two', uris('spiffe://a/b', 'spiffe://example.org/a'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  [
    'the second base',
    uris('spiffe://b.org/a'),
    {
      excluded: [
        [URI, 'a.org'],
        [URI, 'b.org'],
      ],
    },
    EXCLUDED,
  ],
  ['another host', uris('spiffe://example.com/a'), { excluded: [[URI, 'example.org']] }, 'taken'],
  ['a host that ends alike', uris('spiffe://badexample.org/a'), { excluded: [[URI, 'example.org']] }, 'taken'],
  ['no URI at all', dnsNames('example.org'), { excluded: [[URI, 'example.org']] }, 'taken'],
  ['a URI of a permitted host', uris('spiffe://example.org/a'), { permitted: [[URI, 'example.org']] }, 'taken'],
  ['below a permitted domain', uris('spiffe://a.example.org/a'), { permitted: [[URI, '.example.org']] }, 'taken'],
  ['any URI permitted', uris('spiffe://example.org/a'), { permitted: [[URI, '']] }, 'taken'],
  [
    'one base of two',
    uris('spiffe://b.org/a'),
    {
      permitted: [
        [URI, 'a.org'],
        [URI, 'b.org'],
      ],
    },
    'taken',
  ],
  ['outside', uris('spiffe://example.com/a'), { permitted: [[URI, 'example.org']] }, NOT_PERMITTED],
  ['below a permitted host', uris('spiffe://a.example.org/a'), { permitted: [[URI, 'example.org']] }, NOT_PERMITTED],
  ['the domain itself', uris('spiffe://example.org/a'), { permitted: [[URI, '.example.org']] }, NOT_PERMITTED],
  ['that ends alike', uris('spiffe://badexample.org/a'), { permitted: [[URI, '.example.org']] }, NOT_PERMITTED],
  ['the host as a user', uris('spiffe://example.org@a.com/'), { permitted: [[URI, 'example.org']] }, NOT_PERMITTED],
  ['one URI in, one out', uris('spiffe://a.org/', 'spiffe://b.org/'), { permitted: [[URI, 'a.org']] }, NOT_PERMITTED],
  [
    'permitted and excluded',
    uris('spiffe://a.org/'),
    { permitted: [[URI, 'a.org']], excluded: [[URI, 'a.org']] },
    EXCLUDED,
  ],
  ['with a port', uris('https://example.org:8443/'), { permitted: [[URI, 'example.org']] }, 'taken'],
  ['with a query', uris('https://example.org?x'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  ['with a fragment', uris('https://example.org#x'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  ['nothing after the host', uris('https://example.org'), { excluded: [[URI, 'example.org']] }, EXCLUDED],
  ['a URI without host', uris('urn:a:b'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['a URI without host', uris('urn:a:b'), { permitted: [[URI, '']] }, UNMATCHABLE],
  ['a URI with an address', uris('https://192.0.2.1/'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['a host that begins as an address', uris('https://192.0.2.1.a/'), { excluded: [[URI, 'example.org']] }, 'taken'],
  ['a host that ends as an address', uris('https://a192.0.2.1/'), { excluded: [[URI, 'example.org']] }, 'taken'],
  ['a URI with an IPv6 address', uris('https://[2001:db8::1]/'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['rubbish after the port', uris('https://example.com:80x/'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['rubbish before the scheme', uris('1https://example.com/'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['an excluded DNS name', dnsNames('example.org'), { excluded: [[DNS, 'example.org']] }, EXCLUDED],
  ['below an excluded DNS name', dnsNames('a.b.example.org'), { excluded: [[DNS, 'example.org']] }, EXCLUDED],
  ['with a dot at its end', dnsNames('example.org.'), { excluded: [[DNS, 'example.org']] }, EXCLUDED],
  ['in capitals', dnsNames('EXAMPLE.org'), { excluded: [[DNS, 'example.org']] }, EXCLUDED],
  ['a wildcard over it', dnsNames('*.example.org'), { excluded: [[DNS, 'a.example.org']] }, EXCLUDED],
  ['a wildcard beside it', dnsNames('*.example.org'), { excluded: [[DNS, 'a.b.example.org']] }, 'taken'],
  ['a wildcard elsewhere', dnsNames('*.example.com'), { excluded: [[DNS, 'a.example.org']] }, 'taken'],
  ['a name that ends alike', dnsNames('badexample.org'), { excluded: [[DNS, 'example.org']] }, 'taken'],
  ['a name above', dnsNames('org'), { excluded: [[DNS, 'example.org']] }, 'taken'],
  ['the domain of an excluded base', dnsNames('example.org'), { excluded: [[DNS, '.example.org']] }, EXCLUDED],
  ['below the domain of an excluded base', dnsNames('a.example.org'), { excluded: [[DNS, '.example.org']] }, EXCLUDED],
  ['the domain of a permitted base', dnsNames('example.org'), { permitted: [[DNS, '.example.org']] }, NOT_PERMITTED],
  ['below the domain of a permitted base', dnsNames('a.example.org'), { permitted: [[DNS, '.example.org']] }, 'taken'],
  ['a URI with a longer address', uris('https://192.168.200.100/'), { excluded: [[URI, 'example.org']] }, UNMATCHABLE],
  ['a permitted DNS name', dnsNames('example.org'), { permitted: [[DNS, 'example.org']] }, 'taken'],
  ['below a permitted DNS name', dnsNames('a.example.org'), { permitted: [[DNS, 'example.org']] }, 'taken'],
  ['a wildcard over a permitted', dnsNames('*.example.org'), { permitted: [[DNS, 'a.example.org']] }, NOT_PERMITTED],
  ['a name that ends alike', dnsNames('badexample.org'), { permitted: [[DNS, 'example.org']] }, NOT_PERMITTED],
  ['a DNS name outside', dnsNames('a.example.com'), { permitted: [[DNS, 'example.org']] }, NOT_PERMITTED],
  ['a name that is none', dnsNames('a b'), { excluded: [[DNS, 'example.org']] }, UNMATCHABLE],
  ['a wildcard inside', dnsNames('a.*.org'), { excluded: [[DNS, 'example.org']] }, UNMATCHABLE],
  ['an empty label', dnsNames('a..org'), { permitted: [[DNS, 'a..org']] }, UNMATCHABLE],
  ['two lines', dnsNames('example.com\nexample.org'), { excluded: [[DNS, 'example.net']] }, UNMATCHABLE],
  ['an excluded address', ips([192, 0, 2, 7]), { excluded: [[IP, [192, 0, 2, 0, 255, 255, 255, 0]]] }, EXCLUDED],
  ['beside it', ips([192, 0, 3, 7]), { excluded: [[IP, [192, 0, 2, 0, 255, 255, 255, 0]]] }, 'taken'],
  ['a permitted address', ips([192, 0, 2, 7]), { permitted: [[IP, [192, 0, 2, 9, 255, 255, 255, 0]]] }, 'taken'],
  ['outside', ips([192, 0, 3, 7]), { permitted: [[IP, [192, 0, 2, 0, 255, 255, 255, 0]]] }, NOT_PERMITTED],
  ['of the other family', ips(new Array(16).fill(0)), { permitted: [[IP, [0, 0, 0, 0, 0, 0, 0, 0]]] }, NOT_PERMITTED],
  [
    'IPv6',
    ips([...new Array(15).fill(1), 2]),
    { excluded: [[IP, [...new Array(16).fill(1), ...new Array(15).fill(255), 0]]] },
    EXCLUDED,
  ],
  ['a base without mask', ips([192, 0, 2, 7]), { excluded: [[IP, [192, 0, 2, 7]]] }, UNMATCHABLE],
  ['a short address', ips([192, 0, 2]), { excluded: [[IP, [192, 0, 2, 0, 255, 255, 255, 0]]] }, UNMATCHABLE],
  [
    'a base of an unknown kind',
    uris('spiffe://a/b'),
    { excluded: [[REGISTERED_ID, [42, 3]]] },
    /unhandled critical extension/,
  ],
])('%s: %j under %j', async (_, leaf, constraints, wanted) => {
  for (const found of [await outcome(leaf, constraints), await outcome(leaf, undefined, constraints)]) {
    if (wanted === 'taken') expect(found).toBe(wanted)
    else expect(found).toMatch(wanted)
  }
})

test('names of an intermediate are under the constraints of the root, not under its own', async () => {
  const names = { uris: ['spiffe://example.org'] }
  const excluded: Constraints = { excluded: [[URI, 'example.org']] }
  expect(await outcome({}, undefined, excluded, names)).toMatch(EXCLUDED)
  expect(await outcome({}, excluded, undefined, names)).toBe('taken')
})

test('emails are not compared: a CA with constraints on them signs for none', async () => {
  const constraints: Constraints = { permitted: [[EMAIL, 'a@example.org']] }
  expect(await outcome(uris('spiffe://example.org/a'), constraints)).toBe('taken')
  const san = makeExtension('2.5.29.17', false, sequence(element(0x81, utf8('a@example.org'))))
  expect(await outcome({ extra: [san] }, constraints)).toBe('x509: email names cannot be matched against constraints')
})
