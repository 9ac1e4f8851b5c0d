import { coreVectors } from './vectors.ts'

/** Answers with the vectors of the core, in workerd. */
export default {
  fetch: async (): Promise<Response> => Response.json(await coreVectors()),
}
