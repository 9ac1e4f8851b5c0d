import { readFileSync } from 'node:fs'
import { requireServerUrl } from '../../config/server-url.ts'
import { type Certificate, parseCertificate } from '../../core/certificate.ts'
import { epochSeconds, systemClock } from '../../core/clock.ts'
import { errorMessage } from '../../core/error.ts'
import type { Signer } from '../../core/key-type.ts'
import { certificatesFromPem, decodePem } from '../../core/pem.ts'
import { parseTrustDomain, type TrustDomain } from '../../core/trust-domain.ts'
import { importSigner, nodeVerifier } from '../../plugins/signer.ts'
import type { GrpcChannel } from '../../transport/grpc-client.ts'
import { connectHttp } from '../../transport/http-client.ts'
import { x509Credential } from '../../transport/http-signature.ts'
import type { Credential } from '../../transport/message-signature.ts'
import { operatorCredential } from '../../transport/operator-signature.ts'
import { witCredential } from '../../transport/wit-signature.ts'
import { CommandError, fileError } from '../failure.ts'
import { requireServer } from '../require-server.ts'
import type { Remote } from './remote-flags.ts'

/**
 * A channel to a server somewhere else, over HTTPS: requests carry an identity, answers must be signed by the server's SVID.
 * @throws CommandError that says which flag to give
 */
export async function connectRemote(remote: Remote): Promise<GrpcChannel> {
  const url = complaining(() => requireServerUrl(remote.url, '-serverURL'))
  const roots = await rootsOf(remote)
  const trustDomain = trustDomainOf(remote, roots)
  const verify = nodeVerifier()
  const credential = await credentialOf(remote)
  return connectHttp({
    serverUrl: url.href.replace(/\/$/, ''),
    ...(remote.audience === '' ? {} : { audience: remote.audience }),
    credential: () => credential,
    verifyServer: (chain) =>
      requireServer(trustDomain, {
        chain,
        rootsOf: (name) => (name === trustDomain ? roots : undefined),
        at: epochSeconds(systemClock),
        verify,
      }),
    verify,
    clock: systemClock,
  })
}

async function rootsOf({ trustBundle }: Remote): Promise<readonly Certificate[]> {
  if (trustBundle === '') {
    throw new CommandError(
      'the answers of a remote server must be verified: name the bundle of its trust domain with -serverTrustBundle, as "turret-server bundle show" on the server prints it',
    )
  }
  const text = read(trustBundle)
  try {
    if (!text.trimStart().startsWith('{')) return nonEmpty(certificatesFromPem(text).map(parseCertificate))
    const { parseBundleDocument } = await import('../../core/bundle-document.ts')
    // The document does not say whose it is, and nothing in it depends on that.
    const { x509Authorities } = parseBundleDocument(parseTrustDomain('unknown'), text)
    return nonEmpty(x509Authorities.map(({ der }) => parseCertificate(der)))
  } catch (error) {
    throw new CommandError(`unable to read the trust bundle ${trustBundle}: ${errorMessage(error)}`)
  }
}

function nonEmpty<T>(items: readonly T[]): readonly T[] {
  if (items.length === 0) throw new Error('it holds no certificates')
  return items
}

function trustDomainOf({ trustDomain }: Remote, roots: readonly Certificate[]): TrustDomain {
  if (trustDomain !== '') return complaining(() => parseTrustDomain(trustDomain))
  const named = new Set(roots.flatMap(({ uris }) => uris).filter((uri) => /^spiffe:\/\/[^/]+$/.test(uri)))
  const [one, another] = named
  if (one === undefined || another !== undefined) {
    throw new CommandError('the trust bundle does not say whose it is: name the trust domain with -serverTrustDomain')
  }
  return complaining(() => parseTrustDomain(one))
}

/** The one identity that is given; undefined: requests say nothing of who sends them. */
async function credentialOf(remote: Remote): Promise<Credential | { readonly bearer: string } | undefined> {
  const { identityCert, identityWit, identityKey, identitySocket, operatorKey, oidcTokenFile } = remote
  const given = [
    identityCert !== '' || (identityKey !== '' && identityWit === ''),
    identityWit !== '',
    identitySocket !== '',
    operatorKey !== '',
    oidcTokenFile !== '',
  ].filter(Boolean)
  if (given.length > 1) {
    throw new CommandError(
      'only one identity can be used: -identityCert or -identityWIT with -identityKey, -identitySocket, -operatorKey or -oidcTokenFile',
    )
  }
  if (operatorKey !== '') return operatorCredential(keyFrom(operatorKey))
  if (oidcTokenFile !== '') return { bearer: read(oidcTokenFile).trim() }
  if (identitySocket !== '') {
    const { fetchIdentity } = await import('./remote-identity.ts')
    return x509Credential(await fetchIdentity(identitySocket))
  }
  if (identityWit !== '') {
    if (identityKey === '') throw new CommandError('-identityWIT and -identityKey go together')
    const token = read(identityWit).trim()
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) throw new CommandError(`there is no WIT-SVID in ${identityWit}`)
    return witCredential(token, keyFrom(identityKey))
  }
  if (identityCert === '' && identityKey === '') return undefined
  if (identityCert === '' || identityKey === '') throw new CommandError('-identityCert and -identityKey go together')
  const chain = certificatesFromPem(read(identityCert))
  if (chain.length === 0) throw new CommandError(`there is no certificate in ${identityCert}`)
  return x509Credential({ chain, signer: keyFrom(identityKey) })
}

/** A private key as PEM or as a JWK. @throws CommandError that says nothing of the key */
function keyFrom(path: string): Signer {
  const text = read(path)
  try {
    if (text.trimStart().startsWith('{')) return importSigner(JSON.parse(text) as JsonWebKey)
    const block = decodePem(text).find(({ label }) => label.endsWith('PRIVATE KEY'))
    if (block) return importSigner(block.bytes, block.label)
  } catch {
    // What was wrong with it may show what it is.
  }
  throw new CommandError(`there is no private key in ${path}; "turret-server operator keygen" makes one`)
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw fileError(error, 'open', path)
  }
}

function complaining<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new CommandError(errorMessage(error))
  }
}
