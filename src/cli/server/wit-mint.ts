import { createPrivateKey } from 'node:crypto'
import type { KeyType } from '../../core/key-type.ts'
import { generateSigner } from '../../plugins/signer.ts'
import { serverCommand } from '../api-command.ts'
import { idMessage, int32 } from '../arguments.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { joinPath, writePrivate } from '../files.ts'
import { duration, text } from '../flags.ts'
import { goJson } from '../output.ts'
import { svids } from './svid-methods.ts'
import { warnOfLifetime } from './token-expiry.ts'

/** `wit mint`: a key made here and a WIT-SVID bound to it, printed or written to a directory; both files have mode 0600. */
export const command = serverCommand({
  name: 'wit mint',
  flags: {
    spiffeID: text('SPIFFE ID of the WIT-SVID'),
    keyType: text('Key type of the WIT-SVID', 'ec-p256'),
    signingAlgorithm: text('Signing algorithm for the workload signing key', 'ES256'),
    ttl: duration('TTL of the WIT-SVID'),
    write: text('Directory to write output to instead of stdout'),
  },
  async run(flags, { api, json, stdout, stderr, now }) {
    if (flags.spiffeID === '') throw new CommandError('spiffeID must be specified')
    const id = idMessage(flags.spiffeID)
    const ttl = int32(Math.ceil(flags.ttl), 'invalid value for TTL')
    const { signingAlgorithm } = flags
    const key = await generateSigner(keyTypeFor(flags.keyType, signingAlgorithm))
    const request = { id, ttl, publicKey: key.publicKey, signingAlgorithm }
    const { svid } = await explained('unable to mint SVID', api.call(svids.mintWit, request))
    if (svid === undefined || svid.token === '') throw new CommandError('server response missing token')
    warnOfLifetime('WIT-SVID', svid.token, flags.ttl, { stderr, now })
    const privateKey = privateJwk(key.exportPrivateKey())
    if (flags.write === '') {
      if (!json) {
        stdout(`${svid.token}\n${privateKey}\n`)
        return
      }
      const { token, expiresAt, issuedAt } = svid
      const wire = {
        token,
        id: { trust_domain: id.trustDomain, path: id.path },
        expires_at: expiresAt,
        issued_at: issuedAt,
      }
      stdout(`${goJson({ private_key: privateKey, svid: wire })}\n`)
      return
    }
    const [tokenPath, keyPath] = [joinPath(flags.write, 'token'), joinPath(flags.write, 'key')]
    writePrivate(tokenPath, svid.token, 'unable to write token')
    stdout(`WIT-SVID written to ${tokenPath}\n`)
    writePrivate(keyPath, privateKey, 'unable to write key')
    stdout(`Private key written to ${keyPath}\n`)
  },
})

const ALGORITHMS: Readonly<Record<string, KeyType>> = { ES256: 'ec-p256', ES384: 'ec-p384' }

function keyTypeFor(keyType: string, algorithm: string): KeyType {
  if (/^[RP]S(256|384|512)$/.test(algorithm)) {
    if (keyType === 'rsa-2048' || keyType === 'rsa-4096') return keyType
    throw new CommandError(`unsupported key type '${keyType}' for signing algorithm '${algorithm}'`)
  }
  const wanted = Object.hasOwn(ALGORITHMS, algorithm) ? ALGORITHMS[algorithm] : undefined
  if (!wanted) throw new CommandError(`unsupported signing algorithm: ${algorithm}`)
  if (keyType !== wanted)
    throw new CommandError(`unsupported key type '${keyType}' for '${algorithm}' signing algorithm`)
  return wanted
}

/** The private key as a JWK, members in the order in which SPIRE writes them. */
function privateJwk(pkcs8: Uint8Array): string {
  const jwk = createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' }).export({ format: 'jwk' })
  const names = ['kty', 'crv', 'x', 'y', 'n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] as const
  return JSON.stringify(jwk, [...names])
}
