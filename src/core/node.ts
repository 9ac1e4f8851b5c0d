import type { EpochSeconds } from './clock.ts'
import type { Selector } from './selector.ts'
import type { SpiffeId } from './spiffe-id.ts'

/** An attested agent. `serialNumber` (decimal) is empty once the agent is banned. */
export interface AttestedNode {
  readonly id: SpiffeId
  readonly attestationType: string
  readonly serialNumber: string
  readonly expiresAt: EpochSeconds
  /** Serial of a renewed SVID that was not used yet; empty if there is none. */
  readonly newSerialNumber: string
  readonly newExpiresAt: EpochSeconds
  readonly canReattest: boolean
  readonly agentVersion: string
  readonly selectors: readonly Selector[]
}
