import type { EpochSeconds } from '../src/core/clock.ts'

/** Validity of something that must be replaced before it ends. */
export interface Lifetime {
  readonly notBefore: EpochSeconds
  readonly notAfter: EpochSeconds
}

const TWELVE_HOURS = 12 * 3600
const JITTER_SECONDS = 600

export interface RotationRule {
  /** Uniform in [0, 1); spreads the renewals of a fleet. */
  readonly random: () => number
  /** Renew so early that an outage of the server this long is survived; 0 or absent: half-life only. */
  readonly availabilityTargetSeconds?: number
}

/**
 * Tells whether a credential is due for renewal: at about half its life (45 to 55 per cent, drawn at each check), or when
 * less than the availability target is left, whichever comes first.
 */
export function isRotationDue(lifetime: Lifetime, now: EpochSeconds, rule: RotationRule): boolean {
  const total = lifetime.notAfter - lifetime.notBefore
  const left = lifetime.notAfter - now
  if (left <= total * (0.45 + rule.random() * 0.1)) return true
  const target = rule.availabilityTargetSeconds ?? 0
  return target > 0 && total - target > TWELVE_HOURS && left <= target + rule.random() * JITTER_SECONDS
}
