import { ConfigError } from './hcl.ts'

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  μs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
}
const WHOLE = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/

/**
 * Reads a duration in Go's syntax, `1h30m` or `500ms`.
 * @returns seconds, with fractions
 * @throws ConfigError with Go's texts
 */
export function parseDuration(text: string): number {
  if (text === '0' || text === '+0' || text === '-0') return 0
  if (!WHOLE.test(text)) {
    const missing = /^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(text)
    throw new ConfigError(
      missing
        ? `time: missing unit in duration ${JSON.stringify(text)}`
        : `time: invalid duration ${JSON.stringify(text)}`,
    )
  }
  let seconds = 0
  for (const [, number, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g))
    seconds += Number(number) * UNITS[unit!]!
  return text.startsWith('-') ? -seconds : seconds
}

/** Writes seconds as Go prints a duration: `1h0m0s`, `1.5s`, `500ms`. */
export function formatDuration(seconds: number): string {
  if (seconds === 0) return '0s'
  const sign = seconds < 0 ? '-' : ''
  const whole = Math.abs(seconds)
  if (whole < 1) {
    const [unit, factor] = whole < 1e-6 ? ['ns', 1e9] : whole < 1e-3 ? ['µs', 1e6] : ['ms', 1e3]
    return `${sign}${Number((whole * factor).toFixed(6))}${unit}`
  }
  const hours = Math.floor(whole / 3600)
  const minutes = Math.floor((whole % 3600) / 60)
  const rest = Number((whole % 60).toFixed(9))
  return `${sign}${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${rest}s`
}
