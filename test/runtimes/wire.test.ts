import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { programOf, type Runtime, skipNote } from '../support/runtimes.ts'
import { fullHost, type Host, workerd } from './hosts.ts'
import { judge, runScript } from './wire/script.ts'

// The same questions to every host, whose answers must be those that are kept here. UPDATE_GOLDEN=1 writes what Node says by
// gRPC; `npm run format` then puts it into shape.

const FILE = join(import.meta.dirname, 'wire/expected.json')
const expected = JSON.parse(readFileSync(FILE, 'utf8')) as {
  calls: Record<string, unknown>
  svids: Record<string, unknown>
}

function suite(host: Host): void {
  test.each(host.planes)(
    'answers every unary method as expected, by %s',
    async (kind) => {
      const { plane, stop } = await host.start(kind)
      try {
        const transcript = await runScript(plane)
        expect(transcript.left).toEqual([])
        expect(judge(transcript)).toEqual([])
        if (process.env.UPDATE_GOLDEN && host.name === 'node' && kind === 'grpc') {
          const { calls, svids } = transcript
          writeFileSync(FILE, `${JSON.stringify({ calls, svids }, undefined, 2)}\n`)
        } else {
          expect(transcript.svids).toEqual(expected.svids)
          const names = Object.keys(transcript.calls)
          expect(transcript.calls).toEqual(Object.fromEntries(names.map((name) => [name, expected.calls[name]])))
          if (kind === 'grpc') expect(names).toEqual(Object.keys(expected.calls))
        }
        expect(transcript.issued).toHaveLength(20)
      } finally {
        await stop()
      }
    },
    60_000,
  )
}

for (const runtime of ['node', 'deno', 'bun'] satisfies Runtime[]) {
  describe.skipIf(programOf(runtime) === undefined)(`${runtime}${skipNote(runtime)}`, () => suite(fullHost(runtime)))
}
describe('workerd', () => suite(workerd()))
