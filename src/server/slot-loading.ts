import { Status, type X509CAEntry } from '../../proto/spire/server/journal.ts'
import type { Bundle } from '../core/bundle.ts'
import { parseCertificate } from '../core/certificate.ts'
import type { EpochSeconds } from '../core/clock.ts'
import { equalBytes, hex } from '../core/der.ts'
import { jwtSigner } from '../core/jwt-svid.ts'
import type { Signer } from '../core/key-type.ts'
import { verifyPath } from '../core/path-validation.ts'
import type { VerifySignature } from '../core/public-key.ts'
import { WIT_TYPE } from '../core/wit-svid.ts'
import type { JwtKey, X509Ca } from './ca.ts'
import type { Journal } from './journal.ts'
import { emptySlot, KEY_NAMES, type Slot, SlotPair } from './slots.ts'

export interface LoadedSlots {
  readonly x509: SlotPair<X509Ca>
  readonly jwt: SlotPair<JwtKey>
  readonly wit: SlotPair<JwtKey>
}

export interface SlotSource {
  readonly journal: Journal
  /** What the KeyManager holds, by name. */
  readonly keys: ReadonlyMap<string, Signer>
  /** The own bundle, if there is one. */
  readonly bundle: Bundle | undefined
  /** A CA signed upstream is not in the bundle itself, but what it leads to is. */
  readonly hasUpstream: boolean
  readonly verify: VerifySignature
  readonly now: EpochSeconds
}

/**
 * What the journal says is in the slots, as far as it is still good: not over, trusted by the bundle, and with the very key that the
 * KeyManager holds. Anything else is left out, and rotation makes it anew.
 * @see server.md 5.2
 */
export async function loadSlots(source: SlotSource): Promise<LoadedSlots> {
  return { x509: await loadX509(source), jwt: loadKeys(source, 'jwt'), wit: loadKeys(source, 'wit') }
}

async function loadX509(source: SlotSource): Promise<SlotPair<X509Ca>> {
  const { journal, keys, bundle, hasUpstream, now } = source
  const pair = new SlotPair<X509Ca>()
  const roots = new Set(bundle?.x509Authorities.map((root) => hex(root.der)))
  for (const entry of journal.entries('x509CAs')) {
    const letter = letterOf(entry.slotId)
    const signer = letter && keys.get(`${KEY_NAMES.x509}-${letter}`)
    if (!letter || !signer || entry.notAfter < now) continue
    const certificate = parseCertificate(entry.certificate)
    if (!equalBytes(certificate.spki, signer.publicKey)) continue
    const trusted = hasUpstream ? await leadsToRoot(entry, source) : roots.has(hex(entry.certificate))
    if (!trusted) continue
    place(pair, {
      letter,
      status: statusOf(entry.status),
      authority: { signer, certificate, upstreamChain: entry.upstreamChain },
      authorityId: entry.authorityId,
      upstreamAuthorityId: entry.upstreamAuthorityId,
      issuedAt: entry.issuedAt,
      notAfter: certificate.notAfter,
    })
  }
  return settled(pair)
}

/** Whether a CA that was signed upstream leads to a root that everybody trusts: the journal may know of one that was never published. */
async function leadsToRoot({ certificate, upstreamChain }: X509CAEntry, { bundle, verify, now }: SlotSource) {
  try {
    await verifyPath({
      leaf: parseCertificate(certificate),
      intermediates: upstreamChain.slice(1).map(parseCertificate),
      roots: (bundle?.x509Authorities ?? []).map(({ der }) => parseCertificate(der)),
      at: now,
      verify,
    })
    return true
  } catch {
    return false
  }
}

function loadKeys({ journal, keys, bundle, now }: SlotSource, kind: 'jwt' | 'wit'): SlotPair<JwtKey> {
  const pair = new SlotPair<JwtKey>()
  const published = kind === 'jwt' ? bundle?.jwtAuthorities : bundle?.witAuthorities
  const keyIds = new Set(published?.map((key) => key.keyId))
  for (const entry of journal.entries(kind === 'jwt' ? 'jwtKeys' : 'witKeys')) {
    const letter = letterOf(entry.slotId)
    const signer = letter && keys.get(`${KEY_NAMES[kind]}-${letter}`)
    if (!letter || !signer || entry.notAfter < now) continue
    if (!equalBytes(entry.publicKey, signer.publicKey) || !keyIds.has(entry.kid)) continue
    place(pair, {
      letter,
      status: statusOf(entry.status),
      authority: {
        ...jwtSigner(signer, entry.kid, kind === 'jwt' ? 'JWT' : WIT_TYPE),
        notAfter: entry.notAfter,
      },
      authorityId: entry.authorityId,
      upstreamAuthorityId: '',
      issuedAt: entry.issuedAt,
      notAfter: entry.notAfter,
    })
  }
  return settled(pair)
}

/** Places an entry by its status: the newest active one is current, the newest other one is next. */
function place<T>(pair: SlotPair<T>, slot: Slot<T>): void {
  if (slot.status === 'active') pair.current = slot
  else pair.next = slot
}

/** Sees to it that the two slots have different letters, the current one deciding. */
function settled<T>(pair: SlotPair<T>): SlotPair<T> {
  if (pair.current.status === 'empty' && pair.next.status === 'prepared') {
    // Prepared but never activated, which is the next thing to do: it is in the bundle.
    pair.current = pair.next
    pair.next = emptySlot(other(pair.current.letter))
  } else if (pair.next.letter === pair.current.letter) {
    pair.next = emptySlot(other(pair.current.letter))
  }
  return pair
}

function other(letter: 'A' | 'B'): 'A' | 'B' {
  return letter === 'A' ? 'B' : 'A'
}

function letterOf(slotId: string): 'A' | 'B' | undefined {
  return slotId === 'A' || slotId === 'B' ? slotId : undefined
}

function statusOf(status: Status): Slot<unknown>['status'] {
  return status === Status.ACTIVE ? 'active' : status === Status.OLD ? 'old' : 'prepared'
}
