import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Case, toHex } from './messages.ts'

const CACHE = resolve(import.meta.dirname, '../../../node_modules/.cache/turret')
const SOURCE = resolve(import.meta.dirname, '../../interop/go/wire')

/** @returns the program that asks protobuf for Go */
export function buildGo(): string {
  const program = join(CACHE, 'go-wire')
  mkdirSync(CACHE, { recursive: true })
  execFileSync('go', ['build', '-o', program, '.'], { cwd: SOURCE, stdio: 'inherit' })
  return program
}

export function goVerdicts(program: string, cases: readonly Case[]): string[] {
  const input = cases.map(({ type, bytes }) => `${type} ${toHex(bytes)}\n`).join('')
  return execFileSync(program, { input, encoding: 'utf8', maxBuffer: 1 << 28 })
    .trim()
    .split('\n')
}
