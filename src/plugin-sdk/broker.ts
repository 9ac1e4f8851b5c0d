import type { ConnInfo } from '../../proto/hashicorp/plugin.ts'
import { StatusError } from '../core/error.ts'

const PATIENCE_MS = 5_000

/** Connections that the host offers a plugin, by the number of the service behind them. */
export interface Broker {
  /** Takes an offer. */
  take(info: ConnInfo): void
  /** The newest offer of that number. @throws StatusError UNAVAILABLE if none comes within 5 s, go-plugin's patience */
  offered(serviceId: number): Promise<ConnInfo>
}

export function broker(patienceMs = PATIENCE_MS): Broker {
  const offers = new Map<number, ConnInfo>()
  const waiting = new Map<number, Set<(info: ConnInfo) => void>>()
  return {
    take(info) {
      offers.set(info.serviceId, info)
      for (const resolve of waiting.get(info.serviceId) ?? []) resolve(info)
      waiting.delete(info.serviceId)
    },
    async offered(serviceId) {
      const there = offers.get(serviceId)
      if (there) return there
      return new Promise((resolve, reject) => {
        const all = waiting.get(serviceId) ?? new Set()
        waiting.set(serviceId, all)
        const got = (info: ConnInfo): void => {
          clearTimeout(timer)
          resolve(info)
        }
        const timer = setTimeout(() => {
          all.delete(got)
          reject(new StatusError('UNAVAILABLE', 'timeout waiting for connection info'))
        }, patienceMs)
        all.add(got)
      })
    },
  }
}
