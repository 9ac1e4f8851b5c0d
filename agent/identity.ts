import { parseCertificate } from '../src/core/certificate.ts'
import type { EpochSeconds } from '../src/core/clock.ts'
import { equalBytes } from '../src/core/der.ts'
import { StatusError } from '../src/core/error.ts'
import type { Signer } from '../src/core/key-type.ts'
import type { Log } from '../src/core/log.ts'
import { issuingKeyId, leafSpiffeId } from '../src/core/path-validation.ts'
import type { KeyManager } from '../src/core/plugin.ts'
import { type SpiffeId, trustDomainOf } from '../src/core/spiffe-id.ts'
import type { TrustDomain } from '../src/core/trust-domain.ts'
import type { Lifetime } from './rotation-rule.ts'
import type { ClientIdentity } from './server-connection.ts'

const SLOTS = ['agent-svid-A', 'agent-svid-B'] as const
export type KeySlot = (typeof SLOTS)[number]

/** Who the agent is at present. */
export interface AgentIdentity extends Lifetime {
  readonly spiffeId: SpiffeId
  readonly chain: readonly Uint8Array[]
  readonly key: Signer
  readonly slot: KeySlot
  /** Hex key id of the root that the chain leads to. */
  readonly rootKeyId: string
  readonly reattestable: boolean
}

/** @throws StatusError if the chain's leaf is no X509-SVID, or one for another key */
export function identityOf(
  chain: readonly Uint8Array[],
  key: Signer,
  slot: KeySlot,
  reattestable: boolean,
): AgentIdentity {
  const leaf = parseCertificate(chain[0]!)
  if (!equalBytes(leaf.spki, key.publicKey))
    throw new StatusError('INTERNAL', 'the server signed an agent SVID for another key')
  const last = chain.length === 1 ? leaf : parseCertificate(chain[chain.length - 1]!)
  return {
    spiffeId: leafSpiffeId(leaf),
    chain,
    key,
    slot,
    rootKeyId: issuingKeyId(last),
    reattestable,
    notBefore: leaf.notBefore,
    notAfter: leaf.notAfter,
  }
}

/** What TLS needs. @throws Error if the KeyManager keeps its keys to itself */
export function clientIdentity(identity: AgentIdentity): ClientIdentity {
  const privateKey = identity.key.exportPrivateKey?.()
  if (!privateKey) throw new Error('the KeyManager cannot hand the agent key to TLS')
  return { chain: identity.chain, privateKey }
}

/** The slot that the next key goes into: never the one in use. */
export function otherSlot(slot: KeySlot | undefined): KeySlot {
  return slot === SLOTS[0] ? SLOTS[1] : SLOTS[0]
}

/**
 * The identity of the last run, if its key is still there and it has not ended; else the log says why a new one is needed.
 * @throws Error if it is of another trust domain: what is stored with it is not for this agent
 * @see agent.md 3.2
 */
export async function storedIdentity(
  chain: readonly Uint8Array[],
  reattestable: boolean,
  keyManager: KeyManager,
  trustDomain: TrustDomain,
  now: EpochSeconds,
  log: Log,
): Promise<AgentIdentity | undefined> {
  const keys = await keyManager.getKeys()
  const own = SLOTS.filter((slot) => keys.has(slot))
  if (chain.length === 0) {
    if (own.length > 0) log.warn('Keys recovered, but no SVID found. Generating new keypair')
    log.info('SVID is not found. Starting node attestation')
    return undefined
  }
  if (own.length === 0) {
    log.warn('SVID recovered, but no keys found. Generating new keypair')
    return undefined
  }
  const { spki } = parseCertificate(chain[0]!)
  const slot = own.find((name) => equalBytes(keys.get(name)!.publicKey, spki))
  if (!slot) {
    log.warn('SVID recovered, but no SVID key found. Generating new keypair')
    return undefined
  }
  const identity = identityOf(chain, keys.get(slot)!, slot, reattestable)
  if (identity.notAfter <= now + 1) {
    log.warn('SVID key recovered, but SVID is expired. Generating new keypair')
    return undefined
  }
  if (trustDomainOf(identity.spiffeId) !== trustDomain)
    throw new Error(`the stored SVID is of another trust domain: ${identity.spiffeId}`)
  log.info('SVID loaded', { spiffe_id: identity.spiffeId })
  return identity
}
