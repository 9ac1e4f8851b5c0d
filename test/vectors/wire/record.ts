// Writes cases.txt: node test/vectors/wire/record.ts, where Go is.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { buildGo, goVerdicts } from './go.ts'
import { EDGES, malformed } from './malformed.ts'
import { toHex } from './messages.ts'

const cases = [...EDGES, ...fc.sample(malformed, { seed: 1, numRuns: 700 })].filter(({ bytes }) => bytes.length <= 300)
const verdicts = goVerdicts(buildGo(), cases)
const lines = cases.map(({ type, bytes }, index) => `${type} ${toHex(bytes)} ${verdicts[index]}`)
writeFileSync(join(import.meta.dirname, 'cases.txt'), `${[...new Set(lines)].join('\n')}\n`)
