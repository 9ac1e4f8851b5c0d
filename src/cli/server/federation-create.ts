import { serverCommand } from '../api-command.ts'
import { explained } from '../client.ts'
import { printResults } from './federation-block.ts'
import { RELATIONSHIP_FLAGS, relationshipsOf } from './federation-data.ts'
import { relationships } from './federation-methods.ts'

/** `federation create`: one relationship from flags, or many from JSON. */
export const command = serverCommand({
  name: 'federation create',
  flags: RELATIONSHIP_FLAGS,
  async run(flags, call) {
    const wanted = await relationshipsOf(flags, call)
    const request = { federationRelationships: wanted, outputMask: undefined }
    const response = await explained('request failed', call.api.call(relationships.batchCreate, request))
    printResults(call, 'create', response.results, wanted)
  },
})
