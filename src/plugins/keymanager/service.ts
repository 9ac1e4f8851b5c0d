import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { PlainObject } from '../../config/plain.ts'
import { type Clock, epochSeconds } from '../../core/clock.ts'
import type { KeyManager } from '../../core/plugin.ts'
import { textOf } from '../plugin-data.ts'
import { sharedByName } from './shared.ts'

// What key managers whose keys lie in a service have in common.

/** The name of a server in the service, where it is written. */
export interface ServerName {
  /** One of the two is empty. */
  readonly value: string
  readonly file: string
}

/** The name of this server in the service: given, or a UUID kept in a file. */
export function serverIdOf({ value, file }: ServerName): string {
  if (value !== '') return value
  if (!existsSync(file)) {
    const id = randomUUID()
    writeFileSync(file, id, { mode: 0o600, flag: 'wx' })
    return id
  }
  const id = readFileSync(file, 'utf8').trim()
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    throw new Error(`failed to parse server ID from path: ${file} does not hold a UUID`)
  }
  return id.toLowerCase()
}

/** `key_identifier_value` and `key_identifier_file`, as they are written. */
export function readServerName(data: PlainObject): ServerName {
  return { value: textOf(data, 'key_identifier_value'), file: textOf(data, 'key_identifier_file') }
}

/**
 * Finds out at the start, not at the first signature, that the service is there and lets us in.
 * @param scope of servers that share the keys; undefined: the keys are this server's own
 */
export async function started(manager: KeyManager, scope: string | undefined, clock: Clock): Promise<KeyManager> {
  const found = scope === undefined ? manager : sharedByName(manager, scope)
  await found.getKeys()
  await found.maintain?.(epochSeconds(clock))
  return found
}
