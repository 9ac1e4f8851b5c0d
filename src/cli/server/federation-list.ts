import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { counted } from '../output.ts'
import { relationshipBlock } from './federation-block.ts'
import { relationships } from './federation-methods.ts'

/** `federation list`: the relationships made by API; those of the configuration file are not among them. */
export const command = serverCommand({
  name: 'federation list',
  flags: {},
  async run(_flags, { api, print, stdout }) {
    const call = api.call(relationships.list, { outputMask: undefined, pageSize: 0, pageToken: '' })
    print(await explained('error listing federation relationship', call), ({ federationRelationships: all }) => {
      const blocks = all.map((one) => `\n${relationshipBlock(one)}`).join('')
      stdout(`Found ${counted(all.length, 'federation relationship', 'federation relationships')}\n${blocks}`)
    })
  },
})
