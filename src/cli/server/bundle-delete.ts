import { BatchDeleteFederatedBundleRequest_Mode as Mode } from '../../../proto/spire/api/server/bundle/v1.ts'
import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { bundles } from './bundle-methods.ts'

const MODES = {
  '': Mode.RESTRICT,
  restrict: Mode.RESTRICT,
  delete: Mode.DELETE,
  dissociate: Mode.DISSOCIATE,
} as const

/** `bundle delete`: forgets another trust domain; the mode says what becomes of entries that name it. */
export const command = serverCommand({
  name: 'bundle delete',
  flags: {
    id: text('SPIFFE ID of the trust domain'),
    mode: text('Deletion mode: one of restrict, delete, or dissociate', 'restrict'),
  },
  async run(flags, { api, print, stdout }) {
    if (flags.id === '') throw new CommandError('id is required')
    if (!Object.hasOwn(MODES, flags.mode)) throw new CommandError(`unsupported mode ${JSON.stringify(flags.mode)}`)
    const request = { trustDomains: [flags.id], mode: MODES[flags.mode as keyof typeof MODES] }
    const response = await explained('failed to delete federated bundle', api.call(bundles.deleteFederated, request))
    print(response, ({ results }) => {
      const { status, trustDomain } = results[0]!
      if (status?.code) {
        throw new CommandError(`failed to delete federated bundle ${JSON.stringify(trustDomain)}: ${status.message}`)
      }
      stdout('bundle deleted.\n')
    })
  },
})
