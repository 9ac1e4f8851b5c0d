import { serverCommand } from '../api-command.ts'
import { complaining, readInput } from '../arguments.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { bundles } from './bundle-methods.ts'
import { bundleFormat, bundleFromText } from './bundle-text.ts'

/** `bundle set`: stores the bundle of another trust domain, from a file or standard input. */
export const command = serverCommand({
  name: 'bundle set',
  flags: {
    id: text('SPIFFE ID of the trust domain'),
    path: text('Path to the bundle data'),
    format: text('The format of the bundle data. Either "pem" or "spiffe".', 'pem'),
  },
  async run(flags, call) {
    if (flags.id === '') throw new CommandError('id flag is required')
    const format = bundleFormat(flags.format)
    const path = flags.path === '' ? '-' : flags.path
    const data = complaining('unable to load bundle data', () => readInput(path, call))
    const bundle = await bundleFromText(data, format, flags.id)
    const request = { bundle: [bundle], outputMask: undefined }
    const response = await explained('failed to set federated bundle', call.api.call(bundles.setFederated, request))
    call.print(response, ({ results }) => {
      const status = results[0]?.status
      if (status?.code) throw new CommandError(`failed to set federated bundle: ${status.message}`)
      call.stdout('bundle set.\n')
    })
  },
})
