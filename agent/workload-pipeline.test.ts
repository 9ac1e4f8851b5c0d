import { expect, test } from 'vitest'
import { silentLog } from '../src/core/log.ts'
import { rejection } from '../test/support/server.ts'
import type { WorkloadApi } from './workload-api.ts'
import { workloadPipeline } from './workload-pipeline.ts'

const pipeline = workloadPipeline(silentLog, () => 'id')

/** What comes of a call to the public socket with these values of the security header. */
async function outcome(path: string, values: readonly string[]): Promise<string> {
  const call = {
    peer: { via: 'local' as const },
    signal: new AbortController().signal,
    header: (name: string) => (name === 'workload.spiffe.io' ? values : ['true']),
  }
  return rejection((async () => pipeline.authorize({} as WorkloadApi, path, call, { log: silentLog }))())
}

test.each([
  ['no value', []],
  ['an empty one', ['']],
  ['another one', ['false']],
  ['other letters', ['True']],
  ['it twice', ['true', 'true']],
  ['another one beside it', ['true', 'false']],
])('a call of the Workload API whose security header has %s is refused', async (_, values) => {
  for (const method of ['FetchX509SVID', 'FetchJWTSVID', 'FetchX509Bundles', 'ValidateJWTSVID']) {
    expect(await outcome(`/SpiffeWorkloadAPI/${method}`, values)).toBe(
      'INVALID_ARGUMENT: security header missing from request',
    )
  }
})

test('with the security header it is taken; other services need none', async () => {
  expect(await outcome('/SpiffeWorkloadAPI/FetchX509SVID', ['true'])).toBe('OK')
  expect(await outcome('/grpc.health.v1.Health/Check', [])).toBe('OK')
})
