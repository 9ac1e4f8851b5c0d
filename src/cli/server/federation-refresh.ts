import { serverCommand } from '../api-command.ts'
import { CallError } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { relationships } from './federation-methods.ts'

/** `federation refresh`: fetches the bundle of another trust domain now. */
export const command = serverCommand({
  name: 'federation refresh',
  flags: { id: text('SPIFFE ID of the trust domain') },
  async run(flags, { api, print, stdout }) {
    if (flags.id === '') throw new CommandError('id is required')
    try {
      await api.call(relationships.refresh, { trustDomain: flags.id })
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      throw new CommandError(
        error.status.code === 'NOT_FOUND'
          ? `there is no federation relationship with trust domain ${JSON.stringify(flags.id)}`
          : `failed to refresh bundle: ${error.message}`,
        { cause: error },
      )
    }
    print({ code: 0, message: 'OK' }, () => stdout('Bundle refreshed\n'))
  },
})
