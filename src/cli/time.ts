import { readFileSync } from 'node:fs'
import { rfc3339, sameDay } from '../core/rfc3339.ts'

/** Go's text of a moment in UTC: `2033-05-18 03:33:20 +0000 UTC`. */
export function utcTimeText(epochSeconds: number): string {
  return `${rfc3339(epochSeconds).replace('T', ' ').slice(0, -1)} +0000 UTC`
}

/** Go's text of a moment in the local zone: `2026-11-22 17:44:18 +0100 CET`. */
export function localTimeText(epochSeconds: number, env: Readonly<Record<string, string | undefined>>): string {
  const exact = new Date(epochSeconds * 1000)
  const minutes = -(Number.isNaN(exact.getTime()) ? sameDay(epochSeconds) : exact).getTimezoneOffset()
  const clock = rfc3339(epochSeconds + minutes * 60)
    .replace('T', ' ')
    .slice(0, -1)
  const size = Math.abs(minutes)
  const offset = `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${two(size % 60)}`
  return `${clock} ${offset} ${zoneName(minutes * 60, env.TZ) ?? (minutes === 0 ? 'UTC' : offset)}`
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}

/**
 * The abbreviation the zone's file has for an offset: the one in use last, if there were several. JavaScript itself knows
 * only long or localised names.
 */
function zoneName(offsetSeconds: number, zone: string | undefined): string | undefined {
  if (zone === '' || zone === 'UTC') return 'UTC'
  const name = zone?.replace(/^:/, '')
  const path = name === undefined ? '/etc/localtime' : name.startsWith('/') ? name : `/usr/share/zoneinfo/${name}`
  let file: Buffer
  try {
    file = readFileSync(path)
  } catch {
    // A machine without zone files: the caller prints the offset instead of a name.
    return undefined
  }
  return zoneNameIn(file, offsetSeconds)
}

/** The lookup in a TZif file (RFC 8536): its version 1 block holds the same types as the later ones in all but slim files. */
export function zoneNameIn(file: Buffer, offsetSeconds: number): string | undefined {
  if (file.subarray(0, 4).toString('latin1') !== 'TZif') return undefined
  let at = 0
  let timeBytes = 4
  if (file[4]! >= 0x32) {
    const [utc, standard, leaps, times, types, chars] = countsAt(file, 0)
    at = 44 + times * 5 + types * 6 + chars + leaps * 8 + standard + utc
    timeBytes = 8
  }
  const [, , , times, types, chars] = countsAt(file, at)
  const indexes = at + 44 + times * timeBytes
  const records = indexes + times
  const names = records + types * 6
  const matches = (type: number): boolean => file.readInt32BE(records + type * 6) === offsetSeconds
  let found: number | undefined
  for (let i = times - 1; i >= 0 && found === undefined; i--)
    if (matches(file[indexes + i]!)) found = file[indexes + i]!
  for (let type = 0; type < types && found === undefined; type++) if (matches(type)) found = type
  if (found === undefined) return undefined
  const start = names + file[records + found * 6 + 5]!
  return file
    .subarray(start, names + chars)
    .toString('latin1')
    .split('\0')[0]
}

function countsAt(file: Buffer, at: number): [number, number, number, number, number, number] {
  const count = (index: number): number => file.readUInt32BE(at + 20 + index * 4)
  return [count(0), count(1), count(2), count(3), count(4), count(5)]
}

/** Go's text of a span that was measured: `870µs`, `3.328955ms`, `1m2.5s`. */
export function elapsedText(milliseconds: number): string {
  const nanoseconds = Math.round(milliseconds * 1e6)
  if (nanoseconds < 1e3) return `${nanoseconds}ns`
  if (nanoseconds < 1e6) return `${nanoseconds / 1e3}µs`
  if (nanoseconds < 1e9) return `${nanoseconds / 1e6}ms`
  const minutes = Math.floor(nanoseconds / 60e9)
  const seconds = `${Number(((nanoseconds - minutes * 60e9) / 1e9).toFixed(9))}s`
  if (minutes === 0) return seconds
  return minutes < 60 ? `${minutes}m${seconds}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`
}
