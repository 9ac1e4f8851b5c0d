import type { EpochSeconds } from './clock.ts'

/** Seconds after which the calendar comes again, in 400 years. */
const CALENDAR_SECONDS = 12_622_780_800

/** `2026-11-22T15:44:18Z`. Years before 0 and after 9999 are written as Go does: what others stored must not end a command. */
export function rfc3339(at: EpochSeconds): string {
  const cycles = Math.floor(at / CALENDAR_SECONDS)
  const [year, rest] = sameDay(at).toISOString().slice(0, 19).split(/-(.*)/) as [string, string]
  const years = Number(year) + cycles * 400
  return `${years < 0 ? '-' : ''}${String(Math.abs(years)).padStart(4, '0')}-${rest}Z`
}

/** A moment that falls on the same day of the calendar between 1970 and 2370. */
export function sameDay(at: EpochSeconds): Date {
  return new Date((at - Math.floor(at / CALENDAR_SECONDS) * CALENDAR_SECONDS) * 1000)
}
