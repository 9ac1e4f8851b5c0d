import type { ConnInfo } from '../../proto/hashicorp/plugin.ts'
import { StatusError } from '../core/error.ts'
import { queue } from './queue.ts'

const PATIENCE_MS = 5_000

/** Connections that the host offers a plugin, by the number of the service behind them. */
export interface Broker {
  /** Takes what the host says. */
  take(info: ConnInfo): void
  /** What the host is to be told, until the signal aborts. */
  outgoing(signal: AbortSignal): AsyncIterable<ConnInfo>
  /** The newest offer of that number. @throws StatusError UNAVAILABLE if none comes within 5 s, go-plugin's patience */
  offered(serviceId: number): Promise<ConnInfo>
  /**
   * Asks the host to take the next stream of the one connection as one to that service.
   * @throws StatusError UNAVAILABLE if it does not, or says nothing for 5 s
   */
  knock(serviceId: number): Promise<void>
}

export function broker(patienceMs = PATIENCE_MS): Broker {
  const offers = new Map<number, ConnInfo>()
  const offersWaitedFor = new Waiting<ConnInfo>(patienceMs)
  const answersWaitedFor = new Waiting<ConnInfo>(patienceMs)
  const toSay = queue<ConnInfo>()
  return {
    take(info) {
      if (info.knock) {
        if (info.knock.ack) answersWaitedFor.resolve(info.serviceId, info)
        return
      }
      offers.set(info.serviceId, info)
      offersWaitedFor.resolve(info.serviceId, info)
    },
    outgoing: toSay.read,
    offered: async (serviceId) =>
      offers.get(serviceId) ?? offersWaitedFor.wait(serviceId, 'timeout waiting for connection info'),
    async knock(serviceId) {
      const answer = answersWaitedFor.wait(
        serviceId,
        `timeout waiting for multiplexing knock handshake on id ${serviceId}`,
      )
      toSay.add({ serviceId, network: '', address: '', knock: { knock: true, ack: false, error: '' } })
      const { knock } = await answer
      if (knock?.error) throw new StatusError('UNAVAILABLE', `failed to knock for id ${serviceId}: ${knock.error}`)
    },
  }
}

/** Who waits for something of a number. */
class Waiting<T> {
  readonly #waiting = new Map<number, Set<(value: T) => void>>()
  readonly #patienceMs: number

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs
  }

  resolve(id: number, value: T): void {
    for (const resolve of this.#waiting.get(id) ?? []) resolve(value)
    this.#waiting.delete(id)
  }

  wait(id: number, late: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const all = this.#waiting.get(id) ?? new Set()
      this.#waiting.set(id, all)
      const got = (value: T): void => {
        clearTimeout(timer)
        resolve(value)
      }
      const timer = setTimeout(() => {
        all.delete(got)
        reject(new StatusError('UNAVAILABLE', late))
      }, this.#patienceMs)
      all.add(got)
    })
  }
}
