import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { relationships } from './federation-methods.ts'

/** `federation delete`: ends a relationship; its bundle stays. */
export const command = serverCommand({
  name: 'federation delete',
  flags: { id: text('SPIFFE ID of the trust domain') },
  async run(flags, { api, print, stdout }) {
    if (flags.id === '') throw new CommandError('id is required')
    const call = api.call(relationships.batchDelete, { trustDomains: [flags.id] })
    print(await explained('failed to delete federation relationship', call), ({ results }) => {
      const { status, trustDomain } = results[0]!
      if (status?.code) {
        const which = JSON.stringify(trustDomain)
        throw new CommandError(`failed to delete federation relationship ${which}: ${status.message}`)
      }
      stdout('federation relationship deleted.\n')
    })
  },
})
