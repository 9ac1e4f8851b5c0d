import { readFile } from 'node:fs/promises'
import type { X509Authority } from '../../core/bundle.ts'
import { type Certificate, parseCertificate } from '../../core/certificate.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import { parseCsr, verifyCsrSignature } from '../../core/csr.ts'
import { equalBytes } from '../../core/der.ts'
import { errorMessage, StatusError } from '../../core/error.ts'
import type { Signer } from '../../core/key-type.ts'
import type { Log } from '../../core/log.ts'
import { verifyPath } from '../../core/path-validation.ts'
import { certificatesFromPem, decodePem } from '../../core/pem.ts'
import type { UpstreamAuthority, UpstreamX509Ca } from '../../core/plugin.ts'
import type { VerifySignature } from '../../core/public-key.ts'
import { rfc3339 } from '../../core/rfc3339.ts'
import { trustDomainId } from '../../core/spiffe-id.ts'
import type { TrustDomain } from '../../core/trust-domain.ts'
import { BACKDATE_SECONDS, issuerOf, randomSerial, signCertificate } from '../../core/x509-svid.ts'
import { half, type PluginDeclaration } from '../plugin.ts'
import { textOf } from '../plugin-data.ts'
import { importSigner } from '../signer.ts'

export interface DiskUpstreamOptions {
  readonly trustDomain: TrustDomain
  readonly certFilePath: string
  readonly keyFilePath: string
  /** Empty: the certificate file holds one self-signed certificate, which is the root. */
  readonly bundleFilePath: string
  readonly clock: Clock
  readonly random: (bytes: Uint8Array) => Uint8Array
  readonly verify: VerifySignature
  readonly log: Log
}

interface Loaded {
  readonly signer: Signer
  /** The CA's chain, root not in it unless it is the CA itself. */
  readonly chain: readonly Certificate[]
  readonly roots: readonly X509Authority[]
}

const DEFAULT_TTL_SECONDS = 3600

/**
 * Signs CAs with a key and a certificate from files. They are read anew at each signature; while they cannot be read, those read
 * last are used.
 * @see server.md 8.2
 */
export async function diskUpstreamAuthority(options: DiskUpstreamOptions): Promise<UpstreamAuthority> {
  let loaded = await load(options)

  async function mintX509Ca(csr: Uint8Array, preferredTtlSeconds: number): Promise<UpstreamX509Ca> {
    try {
      loaded = await load(options)
    } catch (error) {
      options.log.error('Failed to reload the upstream CA; the one loaded last is used', { error: errorMessage(error) })
    }
    const request = parseCsr(csr)
    await verifyCsrSignature(request, options.verify)
    const uri = trustDomainId(options.trustDomain)
    if (request.uris.length !== 1 || request.uris[0] !== uri) {
      throw new StatusError('INVALID_ARGUMENT', `CSR must hold exactly the URI "${uri}"`)
    }
    const { signer, chain, roots } = loaded
    const own = chain[0]!
    const now = epochSeconds(options.clock)
    const ttl = preferredTtlSeconds > 0 ? preferredTtlSeconds : DEFAULT_TTL_SECONDS
    const certificate = await signCertificate(
      {
        kind: 'ca',
        serial: randomSerial(options.random),
        subject: request.subject,
        spki: request.spki,
        notBefore: now - BACKDATE_SECONDS,
        notAfter: Math.min(now + ttl, own.notAfter),
        uri,
      },
      issuerOf(signer, own.subject, own.subjectKeyId),
    )
    const above = chain.filter((one) => !roots.some((root) => equalBytes(root.der, one.der)))
    return { caChain: [certificate, ...above.map((one) => one.der)], upstreamRoots: roots }
  }

  return { name: 'disk', mintX509Ca }
}

async function load(
  options: Pick<DiskUpstreamOptions, 'certFilePath' | 'keyFilePath' | 'bundleFilePath' | 'clock' | 'verify'>,
): Promise<Loaded> {
  const { certFilePath, keyFilePath, bundleFilePath } = options
  const signer = await loadKey(keyFilePath)
  const chain = await loadCertificates(certFilePath, 'certificate')
  const own = chain[0]!
  if (!equalBytes(own.spki, signer.publicKey)) {
    throw new StatusError('INVALID_ARGUMENT', 'unable to load upstream CA: certificate and private key do not match')
  }
  if (own.notAfter <= epochSeconds(options.clock)) {
    throw new StatusError(
      'INVALID_ARGUMENT',
      `unable to load upstream CA: the certificate ended at ${rfc3339(own.notAfter)}`,
    )
  }
  if (!own.isCa) throw new StatusError('INVALID_ARGUMENT', 'unable to load upstream CA: the certificate is not a CA')
  let roots: readonly Certificate[]
  if (bundleFilePath === '') {
    if (chain.length > 1) {
      throw new StatusError(
        'INVALID_ARGUMENT',
        'with no bundle_file_path configured only self-signed CAs are supported',
      )
    }
    roots = chain
  } else roots = await loadCertificates(bundleFilePath, 'bundle')
  if (!roots.some((root) => equalBytes(root.der, own.der))) {
    await verifyPath({
      leaf: own,
      intermediates: chain.slice(1),
      roots,
      at: epochSeconds(options.clock),
      verify: options.verify,
    }).catch((error) => {
      throw new StatusError(
        'INVALID_ARGUMENT',
        `unable to load upstream CA: unable to verify certificates against root: ${errorMessage(error)}`,
      )
    })
  }
  return { signer, chain, roots: roots.map(({ der }) => ({ der, tainted: false })) }
}

async function loadKey(path: string): Promise<Signer> {
  try {
    const block = decodePem(await readFile(path, 'utf8')).find(
      ({ label }) => label === 'PRIVATE KEY' || label === 'EC PRIVATE KEY' || label === 'RSA PRIVATE KEY',
    )
    if (!block) throw new Error('no PEM blocks')
    return importSigner(block.bytes, block.label)
  } catch (error) {
    throw new StatusError('INVALID_ARGUMENT', `unable to load upstream CA key: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

async function loadCertificates(path: string, what: string): Promise<readonly Certificate[]> {
  try {
    const found = certificatesFromPem(await readFile(path, 'utf8')).map(parseCertificate)
    if (found.length === 0) throw new Error('no PEM blocks')
    return found
  } catch (error) {
    throw new StatusError('INVALID_ARGUMENT', `unable to load upstream CA ${what}: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

const declaration: PluginDeclaration<'UpstreamAuthority'> = {
  server: half({
    keys: ['cert_file_path', 'key_file_path', 'bundle_file_path'],
    read(data) {
      const certFilePath = textOf(data, 'cert_file_path')
      const keyFilePath = textOf(data, 'key_file_path')
      if (certFilePath === '' || keyFilePath === '') {
        throw new Error("'cert_file_path' and 'key_file_path' must be set and not empty")
      }
      return { certFilePath, keyFilePath, bundleFilePath: textOf(data, 'bundle_file_path') }
    },
    preview: (files, host) => load({ ...files, ...host }),
    make: (files, { trustDomain, clock, random, verify, log }) =>
      diskUpstreamAuthority({ ...files, trustDomain, clock, random, verify, log }),
  }),
}
export default declaration
