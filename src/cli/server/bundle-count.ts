import { serverCommand } from '../api-command.ts'
import { counted } from '../output.ts'
import { bundles } from './bundle-methods.ts'

/** `bundle count`: how many bundles there are, the own one included. */
export const command = serverCommand({
  name: 'bundle count',
  flags: {},
  async run(_flags, { api, print, stdout }) {
    const response = await api.call(bundles.count, {})
    print(response, ({ count }) => stdout(`${counted(count, 'bundle', 'bundles')}\n`))
  },
})
