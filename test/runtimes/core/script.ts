// Prints the vectors of the core, on the runtime that runs this file.
import { coreVectors } from './vectors.ts'

console.log(JSON.stringify(await coreVectors()))
