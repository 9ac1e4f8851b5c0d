import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { relationshipBlock } from './federation-block.ts'
import { relationships } from './federation-methods.ts'

/** `federation show`: one relationship. */
export const command = serverCommand({
  name: 'federation show',
  flags: { trustDomain: text('The trust domain name of the federation relationship to show') },
  async run(flags, { api, print, stdout }) {
    const { trustDomain } = flags
    if (trustDomain === '') throw new CommandError('a trust domain name is required')
    const call = api.call(relationships.get, { trustDomain, outputMask: undefined })
    print(await explained('error showing federation relationship', call), (found) =>
      stdout(`Found a federation relationship with trust domain ${trustDomain}:\n\n${relationshipBlock(found)}`),
    )
  },
})
