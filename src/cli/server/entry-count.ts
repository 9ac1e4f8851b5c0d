import { serverCommand } from '../api-command.ts'
import { counted } from '../output.ts'
import { entryFilter, filterFlags } from './entry-flags.ts'
import { entries } from './entry-methods.ts'

/** `entry count`: how many entries pass the filters. */
export const command = serverCommand({
  name: 'entry count',
  flags: filterFlags('count'),
  async run(flags, { api, print, stdout }) {
    const response = await api.call(entries.count, { filter: entryFilter(flags) })
    print(response, ({ count }) => stdout(`${counted(count, 'registration entry', 'registration entries')}\n`))
  },
})
