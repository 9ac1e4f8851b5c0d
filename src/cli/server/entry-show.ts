import type { Entry } from '../../../proto/spire/api/types.ts'
import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { CommandError } from '../failure.ts'
import { text } from '../flags.ts'
import { counted } from '../output.ts'
import { entryBlock, sortEntries } from './entry-block.ts'
import { entryFilter, filterFlags } from './entry-flags.ts'
import { entries } from './entry-methods.ts'

const PAGE_SIZE = 500

/** `entry show`: the entry with an ID, or all that pass the filters, sorted. */
export const command = serverCommand({
  name: 'entry show',
  flags: { entryID: text('The Entry ID of the records to show'), ...filterFlags('show') },
  async run(flags, { api, print, stdout }) {
    const id = flags.entryID
    if (id !== '' && (flags.parentID !== '' || flags.spiffeID !== '' || flags.selector.length > 0)) {
      throw new CommandError("the -entryID flag can't be combined with others")
    }
    const found: Entry[] = []
    if (id !== '') {
      found.push(await explained(`error fetching entry ID ${id}`, api.call(entries.get, { id, outputMask: undefined })))
    } else {
      const filter = entryFilter(flags)
      let pageToken = ''
      do {
        const request = { filter, pageSize: PAGE_SIZE, pageToken, outputMask: undefined }
        const page = await explained('error fetching entries', api.call(entries.list, request))
        for (const entry of page.entries) found.push(entry)
        pageToken = page.nextPageToken
      } while (pageToken !== '')
    }
    sortEntries(found)
    print({ entries: found, nextPageToken: '' }, () => {
      stdout(`Found ${counted(found.length, 'entry', 'entries')}\n${found.map(entryBlock).join('')}`)
    })
  },
})
