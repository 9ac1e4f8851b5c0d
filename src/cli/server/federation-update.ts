import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { printResults } from './federation-block.ts'
import { RELATIONSHIP_FLAGS, relationshipsOf } from './federation-data.ts'
import { relationships } from './federation-methods.ts'

/** `federation update`: one relationship from flags, or many from JSON. */
export const command = serverCommand({
  name: 'federation update',
  flags: RELATIONSHIP_FLAGS,
  async run(flags, call) {
    const wanted = await relationshipsOf(flags, call)
    const request = { federationRelationships: wanted, inputMask: undefined, outputMask: undefined }
    const response = await explained('request failed', call.api.call(relationships.batchUpdate, request))
    printResults(call, 'update', response.results, wanted)
  },
})
