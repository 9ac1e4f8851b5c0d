import { constants, createPrivateKey, type KeyObject, randomBytes, sign } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { base64, fromBase64 } from '../../../core/base64.ts'
import { StatusError } from '../../../core/error.ts'
import { certificatesFromPem } from '../../../core/pem.ts'
import type { AgentNodeAttestor } from '../../../core/plugin.ts'

const NONCE_BYTES = 32

export interface X509PopCredentials {
  /** DER, leaf first. */
  readonly certificates: readonly Uint8Array[]
  readonly privateKey: KeyObject
}

/**
 * Proves that the agent holds the key of a certificate.
 * @param load called at each attestation, so that renewed files are used
 */
export function x509PopAgentAttestor(load: () => Promise<X509PopCredentials>): AgentNodeAttestor {
  return {
    name: 'x509pop',
    async begin() {
      const { certificates, privateKey } = await load()
      return {
        payload: json({ certificates: certificates.map(base64) }),
        respond: async (challenge) => json(respond(privateKey, challenge)),
      }
    },
  }
}

/** Reads the files that `plugin_data` names: `private_key_path`, `certificate_path`, `intermediates_path`. */
export function x509PopFiles(data: Readonly<Record<string, unknown>>): () => Promise<X509PopCredentials> {
  const path = (key: string, required: boolean): string => {
    const value = data[key]
    if (typeof value === 'string' && value !== '') return value
    if (required) throw new Error(`${key} is required`)
    return ''
  }
  const keyPath = path('private_key_path', true)
  const certificatePath = path('certificate_path', true)
  const intermediatesPath = path('intermediates_path', false)
  return async () => ({
    certificates: [
      ...certificatesFromPem(await readFile(certificatePath, 'utf8')),
      ...(intermediatesPath === '' ? [] : certificatesFromPem(await readFile(intermediatesPath, 'utf8'))),
    ],
    privateKey: createPrivateKey(await readFile(keyPath)),
  })
}

function respond(key: KeyObject, challenge: Uint8Array) {
  const asked = JSON.parse(new TextDecoder().decode(challenge)) as Partial<
    Record<'rsa_signature' | 'ecdsa_signature', { readonly nonce: string } | null>
  >
  const rsa = key.asymmetricKeyType === 'rsa'
  const part = rsa ? asked.rsa_signature : asked.ecdsa_signature
  if (!part) throw new StatusError('INTERNAL', `expecting ${rsa ? 'RSA' : 'ECDSA'} challenge`)
  const theirs = fromBase64(part.nonce)
  if (theirs.length !== NONCE_BYTES) throw new StatusError('INTERNAL', 'invalid challenge nonce')
  const own = randomBytes(NONCE_BYTES)
  const data = Buffer.concat([theirs, own])
  const nonce = base64(own)
  if (rsa) {
    const padding = constants.RSA_PKCS1_PSS_PADDING
    return { rsa_signature: { nonce, signature: base64(sign('sha256', data, { key, padding })) } }
  }
  const signature = sign('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
  const half = signature.length / 2
  return { ecdsa_signature: { nonce, r: base64(signature.subarray(0, half)), s: base64(signature.subarray(half)) } }
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}
