import { expect, test } from 'vitest'
import { unfitRuntime } from './runtime.ts'

test.each([
  [{ node: '26.10.0' }, undefined],
  [{ node: '24.0.0' }, undefined],
  [{ node: '22.20.1' }, 'needs node 24 or newer, found 22.20.1'],
  [{ node: '24.3.0', deno: '2.9.6' }, undefined],
  [{ node: '24.3.0', deno: '2.10.0' }, undefined],
  [{ node: '24.3.0', deno: '3.0.0' }, undefined],
  [{ node: '24.3.0', deno: '2.8.3' }, 'needs deno 2.9 or newer, found 2.8.3'],
  [{ node: '24.3.0', bun: '1.4.5' }, undefined],
  [{ node: '24.3.0', bun: '1.3.14' }, 'needs bun 1.4 or newer, found 1.3.14'],
])('a runtime of %o: %s', (versions, expected) => {
  expect(unfitRuntime(versions)).toBe(expected)
})
