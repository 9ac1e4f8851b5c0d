import { serverCommand } from '../api-command.ts'
import { idMessage, readInput } from '../arguments.ts'
import { CommandError } from '../failure.ts'
import { boolean, text } from '../flags.ts'
import { entryBlock, refusedEntry } from './entry-block.ts'
import { entriesFromJson } from './entry-data.ts'
import { ENTRY_FLAGS, entryOf, JTI_HELP, PREFETCH_HELP, requireTtls } from './entry-flags.ts'
import { entries } from './entry-methods.ts'

/** `entry create`: one entry from flags, or many from JSON. */
export const command = serverCommand({
  name: 'entry create',
  flags: {
    ...ENTRY_FLAGS,
    entryID: text('A custom ID for this registration entry (optional). If not set, a new entry ID will be generated'),
    node: boolean('If set, this entry will be applied to matching nodes rather than workloads'),
    disableX509SVIDPrefetch: boolean(PREFETCH_HELP),
    jwtSVIDIncludeJTI: boolean(JTI_HELP),
  },
  async run(flags, call) {
    const wanted = flags.data === '' ? [fromFlags(flags)] : entriesFromJson(readInput(flags.data, call))
    const response = await call.api.call(entries.batchCreate, { entries: wanted, outputMask: undefined })
    // The server says nothing of an entry it refused: what was asked for is shown.
    const results = response.results.map((result, i) =>
      result.status?.code ? { ...result, entry: wanted[i] } : result,
    )
    call.print({ results }, () => {
      const failed = results.filter((result) => result.status?.code)
      for (const result of results) if (!result.status?.code) call.stdout(entryBlock(result.entry!))
      for (const { status, entry } of failed) call.stderr(refusedEntry('create', status!, entry!))
      if (failed.length > 0) throw new CommandError('failed to create one or more entries')
    })
  },
})

type Flags = Parameters<typeof entryOf>[0] & {
  readonly entryID: string
  readonly node: boolean
  readonly disableX509SVIDPrefetch: boolean
  readonly jwtSVIDIncludeJTI: boolean
}

function fromFlags(flags: Flags): ReturnType<typeof entryOf> {
  if (flags.selector.length === 0) throw new CommandError('at least one selector is required')
  if (flags.node && flags.federatesWith.length > 0) throw new CommandError('node entries can not federate')
  if (flags.parentID === '' && !flags.node) {
    throw new CommandError('a parent ID is required if the node flag is not set')
  }
  if (flags.spiffeID === '') throw new CommandError('a SPIFFE ID is required')
  requireTtls(flags)
  const spiffeId = idMessage(flags.spiffeID)
  const parentId = flags.node ? { trustDomain: spiffeId.trustDomain, path: '/spire/server' } : idMessage(flags.parentID)
  return entryOf(flags, flags.entryID, spiffeId, parentId, {
    disableX509SvidPrefetch: flags.disableX509SVIDPrefetch,
    jwtSvidIncludeJti: flags.jwtSVIDIncludeJTI,
  })
}
