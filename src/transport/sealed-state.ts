import { base64Url, fromBase64Url } from '../core/base64.ts'
import { type Clock, epochSeconds } from '../core/clock.ts'
import { concat, utf8 } from '../core/der.ts'
import { StatusError } from '../core/error.ts'
import type { UseStore } from '../core/store.ts'

const LIFETIME_MS = 60_000
const NONCE_BYTES = 12
/** The nonce at the start of the base64url text. */
const NONCE_CHARACTERS = 16

/**
 * Hands the state of an unfinished exchange to the client, who can neither read nor change it, and takes it back once within a minute.
 * AES-256-GCM; what it is bound to (method, first message) is authenticated with it.
 */
export class StateSeal {
  readonly #key: Promise<CryptoKey>
  readonly #clock: Clock
  readonly #uses: Pick<UseStore, 'take'>

  /**
   * @param secret 32 bytes, the same for all replicas that answer for each other, as is `uses`
   * @param scope of whom the states are: others with the same secret cannot open them
   */
  constructor(secret: Uint8Array, scope: string, clock: Clock, uses: Pick<UseStore, 'take'>) {
    this.#uses = uses
    this.#key = crypto.subtle.importKey('raw', secret as BufferSource, 'HKDF', false, ['deriveKey']).then((key) =>
      crypto.subtle.deriveKey(
        {
          name: 'HKDF',
          hash: 'SHA-256',
          salt: new Uint8Array(0),
          info: utf8(`turret attestation state ${scope}`) as BufferSource,
        },
        key,
        { name: 'AES-GCM', length: 256 },
        false,
        ['encrypt', 'decrypt'],
      ),
    )
    this.#clock = clock
  }

  async seal(state: Uint8Array, boundTo: Uint8Array): Promise<string> {
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES))
    const time = new Uint8Array(8)
    new DataView(time.buffer).setBigUint64(0, BigInt(this.#clock.nowMs()))
    const sealed = await crypto.subtle.encrypt(
      { name: 'AES-GCM', iv: nonce, additionalData: boundTo as BufferSource },
      await this.#key,
      concat([time, state]) as BufferSource,
    )
    return base64Url(concat([nonce, new Uint8Array(sealed)]))
  }

  /** @throws StatusError INVALID_ARGUMENT if it is not ours, bound to something else, too old or used before */
  async open(text: string, boundTo: Uint8Array): Promise<Uint8Array> {
    let plain: Uint8Array
    try {
      const sealed = fromBase64Url(text)
      plain = new Uint8Array(
        await crypto.subtle.decrypt(
          {
            name: 'AES-GCM',
            iv: sealed.subarray(0, NONCE_BYTES) as BufferSource,
            additionalData: boundTo as BufferSource,
          },
          await this.#key,
          sealed.subarray(NONCE_BYTES) as BufferSource,
        ),
      )
    } catch (cause) {
      throw new StatusError('INVALID_ARGUMENT', 'the attestation state is not valid', { cause })
    }
    const now = epochSeconds(this.#clock)
    const sealedAt = Number(new DataView(plain.buffer, plain.byteOffset).getBigUint64(0))
    const key = `seal ${text.slice(0, NONCE_CHARACTERS)}`
    // The replica that sealed it may be ahead: the mark has to outlive the state, by its time, and the clock of whoever prunes.
    const until = Math.max(now, Math.floor(sealedAt / 1000)) + (2 * LIFETIME_MS) / 1000
    const inTime = Math.abs(this.#clock.nowMs() - sealedAt) <= LIFETIME_MS
    if (!inTime || !(await this.#uses.take(key, until, now))) {
      throw new StatusError('INVALID_ARGUMENT', 'the attestation state is too old or was used before')
    }
    return plain.subarray(8)
  }
}
