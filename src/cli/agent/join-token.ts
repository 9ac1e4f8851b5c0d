import { readFileSync } from 'node:fs'
import type { AgentOptions } from '../../config/agent.ts'
import { complaining } from '../arguments.ts'
import { CommandError } from '../failure.ts'

/**
 * The join token of a configuration, from the file that holds it if there is one.
 * @throws CommandError with SPIRE's texts
 */
export function joinTokenOf(options: Pick<AgentOptions, 'joinToken' | 'joinTokenFile'>): string | undefined {
  const { joinToken, joinTokenFile: path } = options
  if (path === undefined) return joinToken
  const text = complaining(`unable to read join token file ${JSON.stringify(path)}`, () => readFileSync(path, 'utf8'))
  if (text.trim() === '') throw new CommandError('join token file is empty')
  return text.trim()
}
