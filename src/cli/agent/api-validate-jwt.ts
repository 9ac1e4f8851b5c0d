import { CallError } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { messagesJson, outputFlag, sortedMap } from '../output.ts'
import { workload } from '../workload-methods.ts'
import { workloadCommand } from './workload-command.ts'

/** `api validate jwt`: lets the agent verify a JWT-SVID for an audience. */
export const command = workloadCommand({
  name: 'validate jwt',
  flags: {
    audience: text('expected audience value'),
    svid: text('JWT SVID'),
    output: outputFlag(),
  },
  async run(flags, { api, options, stdout }) {
    if (flags.audience === '') throw new CommandError('audience must be specified')
    if (flags.svid === '') throw new CommandError('svid must be specified')
    const request = { audience: flags.audience, svid: flags.svid }
    const response = await api.call(workload.validateJwtSvid, request, options).catch((error: unknown) => {
      if (!(error instanceof CallError)) throw error
      const refused = error.status.code === 'INVALID_ARGUMENT'
      const text = refused
        ? `SVID is not valid: ${error.status.message}`
        : `unable to validate JWT SVID: ${error.message}`
      throw new CommandError(text, { cause: error })
    })
    if (flags.output.format === 'json') stdout(messagesJson(response))
    else {
      const claims = JSON.stringify(sortedMap(response.claims ?? {}))
      stdout(`SVID is valid.\nSPIFFE ID : ${response.spiffeId}\nClaims    : ${claims}\n`)
    }
  },
})
