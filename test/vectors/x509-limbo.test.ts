import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { type Certificate, parseCertificate } from '../../src/core/certificate.ts'
import { StatusError } from '../../src/core/error.ts'
import { verifyPath } from '../../src/core/path-validation.ts'
import { type VerifySignature, webCryptoVerifier } from '../../src/core/public-key.ts'
import { nodeVerifier } from '../../src/plugins/signer.ts'

/** Certificates are DER in base64. */
interface Case {
  readonly id: string
  readonly roots: readonly string[]
  readonly intermediates: readonly string[]
  readonly leaf: string
  /** Absent: now. */
  readonly at: string | null
  readonly good: boolean
}

/** What is judged otherwise here, by reason. */
const TAKEN: Readonly<Record<string, readonly string[]>> = {
  'the name of a peer is its SPIFFE ID, which others check': [
    'rfc5280::ca-as-leaf-wrong-san',
    'rfc5280::san::noncritical-with-empty-subject',
    'rfc5280::san::underscore-dns',
    'rfc5280::san::ip-in-dns',
    'webpki::cn::ipv4-hex-mismatch',
    'webpki::cn::ipv4-leading-zeros-mismatch',
    'webpki::cn::ipv6-uppercase-mismatch',
    'webpki::cn::ipv6-uncompressed-mismatch',
    'webpki::cn::ipv6-non-rfc5952-mismatch',
    'webpki::cn::punycode-not-in-san',
    'webpki::cn::utf8-vs-punycode-mismatch',
    'webpki::cn::not-in-san',
    'webpki::cn::case-mismatch',
    'webpki::san::mismatch-domain-san',
    'webpki::san::mismatch-subdomain-san',
    'webpki::san::mismatch-subdomain-apex-san',
    'webpki::san::mismatch-apex-subdomain-san',
    'webpki::san::public-suffix-wildcard-san',
    'webpki::san::public-suffix-multi-label-wildcard-san',
    'webpki::san::public-suffix-private-namespace-wildcard-san',
    'webpki::san::wildcard-embedded-leftmost-san',
    'webpki::san::wildcard-not-in-leftmost-san',
    'webpki::san::wildcard-match-across-labels-san',
    'webpki::san::wildcard-embedded-ulabel-san',
    'webpki::san::no-san',
    'webpki::san::san-critical-with-nonempty-subject',
    'webpki::san::san-wildcard-only',
    'webpki::san::san-wildcard-only-tld',
  ],
  'an X509-SVID is good for any extended key usage': [
    'rfc5280::eku::ee-wrong-eku',
    'rfc5280::eku::ee-eku-empty',
    'webpki::eku::ee-anyeku',
    'webpki::eku::ee-critical-eku',
    'webpki::eku::ee-without-eku',
    'webpki::eku::root-has-eku',
  ],
  'that a leaf is no CA is checked of SVIDs, not of paths': [
    'rfc5280::leaf-ku-keycertsign',
    'webpki::ca-as-leaf',
    'webpki::ee-basicconstraints-ca',
  ],
  'the key of a leaf is checked by whoever verifies with it': [
    'webpki::forbidden-p192-leaf',
    'webpki::forbidden-dsa-leaf',
    'webpki::forbidden-weak-rsa-in-leaf',
    'webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf',
  ],
  'RSA keys of 1024 bits may sign certificates, as in Go': [
    'webpki::forbidden-weak-rsa-key-in-root',
    'webpki::forbidden-rsa-not-divisible-by-8-in-root',
  ],
  'no test sets the greatest depth': ['pathlen::max-chain-depth-0-exhausted', 'pathlen::max-chain-depth-1-exhausted'],
  'what CAs must write and relying parties need not insist on, as in Go': [
    'rfc5280::aki::critical-aki',
    'rfc5280::aki::leaf-missing-aki',
    'rfc5280::aki::intermediate-missing-aki',
    'rfc5280::aki::cross-signed-root-missing-aki',
    'rfc5280::ca-empty-subject',
    'rfc5280::nc::invalid-dnsname-leading-period',
    'rfc5280::nc::not-allowed-in-ee-critical',
    'rfc5280::nc::not-allowed-in-ee-noncritical',
    'rfc5280::nc::permitted-dns-match-noncritical',
    'rfc5280::pc::ica-noncritical-pc',
    'rfc5280::root-non-critical-basic-constraints',
    'rfc5280::serial::too-long',
    'rfc5280::serial::zero',
    'rfc5280::ski::intermediate-missing-ski',
    'rfc5280::ski::root-missing-ski',
    'webpki::aki::root-with-aki-all-fields',
    'webpki::aki::root-with-aki-authoritycertissuer',
    'webpki::aki::root-with-aki-authoritycertserialnumber',
    'webpki::aki::root-with-aki-missing-keyidentifier',
    'webpki::aki::root-with-aki-ski-mismatch',
    'webpki::malformed-aia',
  ],
}
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  'constraints on kinds of name that are not understood refuse the path': [
    'rfc5280::nc::nc-forbids-othername-noop',
    'rfc5280::nc::permitted-dn-match',
  ],
  'email names cannot be compared': [
    'rfc5280::nc::nc-permits-email-domain',
    'rfc5280::nc::nc-permits-email-exact',
    'rfc5280::nc::nc-permits-email-literal-asterisk-exact-match',
    'rfc5280::nc::nc-permits-email-literal-double-asterisk',
    'rfc5280::nc::nc-permits-email-literal-mid-asterisk',
  ],
  'names of certificates that issued themselves are constrained like others': ['rfc5280::nc::permitted-self-issued'],
}

const cases = JSON.parse(
  gunzipSync(readFileSync(join(import.meta.dirname, 'x509-limbo/cases.json.gz'))).toString(),
) as Case[]
const parse = (text: string) => parseCertificate(new Uint8Array(Buffer.from(text, 'base64')))
/** Within the life of all that name no moment. */
const NOW = 1_800_000_000

async function accepts(row: Case, verify: VerifySignature): Promise<boolean> {
  try {
    const at = row.at === null ? NOW : Math.floor(Date.parse(row.at) / 1000)
    // A root that cannot be read is none.
    const roots: Certificate[] = []
    for (const root of row.roots) {
      try {
        roots.push(parse(root))
      } catch {}
    }
    await verifyPath({ leaf: parse(row.leaf), intermediates: row.intermediates.map(parse), roots, at, verify })
    return true
  } catch (error) {
    expect(error).toBeInstanceOf(StatusError)
    return false
  }
}

test.each([
  ['node:crypto', nodeVerifier()],
  ['Web Crypto', webCryptoVerifier()],
])('with %s each path is judged as it is, but for what is listed', async (_, verify) => {
  const accepted: string[] = []
  const refused: string[] = []
  for (const row of cases) {
    const good = await accepts(row, verify)
    if (good && !row.good) accepted.push(row.id)
    if (!good && row.good) refused.push(row.id)
  }
  expect(accepted.sort()).toEqual(Object.values(TAKEN).flat().sort())
  expect(refused.sort()).toEqual(Object.values(REFUSED).flat().sort())
})

test.each(cases.filter(({ id }) => id.startsWith('pathological::')))('$id costs little', async (row) => {
  let checks = 0
  const inner = nodeVerifier()
  await accepts(row, (...signature) => {
    checks += 1
    return inner(...signature)
  })
  expect(checks).toBeLessThanOrEqual(24)
})
