import type { EpochSeconds } from '../core/clock.ts'

/** Under which names the KeyManager keeps the keys of each kind, before `-A` and `-B`. SPIRE's. */
export const KEY_NAMES = { x509: 'x509-CA', jwt: 'JWT-Signer', wit: 'WIT-Signer' } as const

export type SlotStatus = 'empty' | 'prepared' | 'active' | 'old'

/** One of the two places of a kind of authority. Its key lies in the KeyManager under a name with the same letter. */
export interface Slot<T> {
  readonly letter: 'A' | 'B'
  readonly status: SlotStatus
  readonly authority: T | undefined
  /** Hex subject key id of a CA, key id of a JWT key; empty while the slot is. */
  readonly authorityId: string
  /** Hex key id of what signed a CA, empty for self-signed ones and keys. */
  readonly upstreamAuthorityId: string
  /** When it was prepared. */
  readonly issuedAt: EpochSeconds
  readonly notAfter: EpochSeconds
}

/** The two slots of a kind, to be read. */
export interface Slots<T> {
  readonly current: Slot<T>
  readonly next: Slot<T>
}

export function emptySlot<T>(letter: 'A' | 'B'): Slot<T> {
  return {
    letter,
    status: 'empty',
    authority: undefined,
    authorityId: '',
    upstreamAuthorityId: '',
    issuedAt: 0,
    notAfter: 0,
  }
}

/** Current and next slot of one kind of authority. */
export class SlotPair<T> {
  current: Slot<T> = emptySlot('A')
  next: Slot<T> = emptySlot('B')

  /** The slot to prepare: the current one while it is empty, else the other. */
  get toPrepare(): Slot<T> {
    return this.current.status === 'empty' ? this.current : this.next
  }

  /** Puts a filled slot in its place by its letter. */
  put(slot: Slot<T>): void {
    if (slot.letter === this.current.letter) this.current = slot
    else this.next = slot
  }

  activateCurrent(): void {
    this.current = { ...this.current, status: 'active' }
  }

  /** Whether something has to be made or activated at that moment. */
  isDue(now: EpochSeconds): boolean {
    if (this.current.status !== 'active') return true
    return now > (this.next.status === 'prepared' ? activationTime(this.current) : preparationTime(this.current))
  }

  /** The prepared slot becomes the active one, the active one old. */
  swap(): void {
    const former = this.current
    this.current = { ...this.next, status: 'active' }
    this.next = { ...former, status: 'old' }
  }
}

const THIRTY_DAYS = 30 * 86400
const SEVEN_DAYS = 7 * 86400

/** From when on the successor is made: half the life before the end, at most 30 days. */
export function preparationTime(slot: Pick<Slot<unknown>, 'issuedAt' | 'notAfter'>): EpochSeconds {
  return slot.notAfter - Math.min((slot.notAfter - slot.issuedAt) / 2, THIRTY_DAYS)
}

/** From when on the successor signs: a sixth of the life before the end, at most 7 days. */
export function activationTime(slot: Pick<Slot<unknown>, 'issuedAt' | 'notAfter'>): EpochSeconds {
  return slot.notAfter - Math.min((slot.notAfter - slot.issuedAt) / 6, SEVEN_DAYS)
}
