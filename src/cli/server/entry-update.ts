import type { Entry } from '../../../proto/spire/api/types.ts'
import { serverCommand } from '../api-command.ts'
import { idMessage, readInput } from '../arguments.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { given, text } from '../flags.ts'
import { entryBlock, refusedEntry } from './entry-block.ts'
import { entriesFromJson } from './entry-data.ts'
import { ENTRY_FLAGS, entryOf, JTI_HELP, PREFETCH_HELP, requireTtls } from './entry-flags.ts'
import { entries } from './entry-methods.ts'

/** `entry update`: replaces all that an entry says, but for the additional attributes that no flag names. */
export const command = serverCommand({
  name: 'entry update',
  flags: {
    ...ENTRY_FLAGS,
    entryID: text('The Registration Entry ID of the record to update'),
    disableX509SVIDPrefetch: given(PREFETCH_HELP),
    jwtSVIDIncludeJTI: given(JTI_HELP),
  },
  async run(flags, call) {
    const wanted = flags.data === '' ? [fromFlags(flags)] : entriesFromJson(readInput(flags.data, call))
    if (flags.data === '' && wanted[0]?.additionalAttributes) {
      // The message has no mask for single attributes: those not named have to be sent as they are.
      const request = { id: flags.entryID, outputMask: undefined }
      const reason = 'failed to fetch existing entry to merge additional attributes'
      const existing = await explained(reason, call.api.call(entries.get, request))
      const before = existing.additionalAttributes
      wanted[0].additionalAttributes = {
        disableX509SvidPrefetch: flags.disableX509SVIDPrefetch || (before?.disableX509SvidPrefetch ?? false),
        jwtSvidIncludeJti: flags.jwtSVIDIncludeJTI || (before?.jwtSvidIncludeJti ?? false),
      }
    }
    const request = { entries: wanted, inputMask: undefined, outputMask: undefined }
    const response = await call.api.call(entries.batchUpdate, request)
    const results = response.results.map((result, i) =>
      result.status?.code ? { ...result, entry: wanted[i] } : result,
    )
    call.print({ results }, () => {
      const failed = results.filter((result) => result.status?.code)
      for (const result of results) if (!result.status?.code) call.stdout(entryBlock(result.entry!))
      for (const { status, entry } of failed) call.stderr(refusedEntry('update', status!, entry!))
      if (failed.length > 0) throw new CommandError('failed to update one or more entries')
    })
  },
})

type Flags = Parameters<typeof entryOf>[0] & {
  readonly entryID: string
  readonly disableX509SVIDPrefetch: boolean
  readonly jwtSVIDIncludeJTI: boolean
}

function fromFlags(flags: Flags): Entry {
  if (flags.entryID === '') throw new CommandError('entry ID is required')
  if (flags.selector.length === 0) throw new CommandError('at least one selector is required')
  if (flags.parentID === '') throw new CommandError('a parent ID is required')
  if (flags.spiffeID === '') throw new CommandError('a SPIFFE ID is required')
  requireTtls(flags)
  const parentId = idMessage(flags.parentID)
  const spiffeId = idMessage(flags.spiffeID)
  return entryOf(flags, flags.entryID, spiffeId, parentId, {
    disableX509SvidPrefetch: flags.disableX509SVIDPrefetch,
    jwtSvidIncludeJti: flags.jwtSVIDIncludeJTI,
  })
}
