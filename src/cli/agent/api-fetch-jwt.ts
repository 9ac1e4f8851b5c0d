import { CallError } from '../client.ts'
import { CommandError } from '../failure.ts'
import { commaTexts, text } from '../flags.ts'
import { messagesJson, outputFlag } from '../output.ts'
import { workload } from '../workload-methods.ts'
import { firstOf, workloadCommand } from './workload-command.ts'

/** `api fetch jwt`: JWT-SVIDs of the calling process and the bundles to verify them with. */
export const command = workloadCommand({
  name: 'fetch jwt',
  flags: {
    audience: commaTexts('comma separated list of audience values'),
    spiffeID: text('SPIFFE ID subject (optional)'),
    output: outputFlag(),
    format: outputFlag('deprecated; use -output'),
  },
  async run(flags, { api, options, stdout }) {
    if (flags.audience.length === 0) throw new CommandError('audience must be specified')
    const { output, format } = flags
    if (output.given && format.given && output.format !== format.format) {
      throw new CommandError(`the output format has already been set to "${output.format}"`)
    }
    const bundles = await firstOf(api.stream(workload.fetchJwtBundles, {}, options)).catch(rethrow)
    const request = { audience: [...flags.audience], spiffeId: flags.spiffeID }
    const response = await api.call(workload.fetchJwtSvid, request, options)
    if ((format.given ? format : output).format === 'json') {
      stdout(messagesJson(response, bundles))
      return
    }
    for (const { spiffeId, svid, hint } of response.svids) {
      stdout(`token(${spiffeId}):\n\t${svid}\n`)
      if (hint !== '') stdout(`hint(${spiffeId}):\n\t${hint}\n`)
    }
    // SPIRE prints them in random order.
    for (const id of Object.keys(bundles.bundles).sort()) {
      stdout(`bundle(${id}):\n\t${new TextDecoder().decode(bundles.bundles[id])}\n`)
    }
  },
})

/** SPIRE explains a stream that could not be opened, but not the status a stream ends with. */
function rethrow(error: unknown): never {
  if (error instanceof CallError && ['UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(error.status.code)) {
    throw new CommandError(`failed to receive JWT bundles: ${error.message}`, { cause: error })
  }
  throw error
}
