import { expect, test } from 'vitest'
import { connectionBound } from './workload-socket.ts'

test.each([
  [1_024, { perHolder: 85, inAll: 136, atMost: 170 }],
  [20_000, { perHolder: 3_162, inAll: 5_060, atMost: 6_325 }],
  [1_048_576, { perHolder: 4_096, inAll: 6_553, atMost: 8_192 }],
])('with %i descriptors, connections leave some to the agent, and each user some to others', (descriptors, bound) => {
  expect(connectionBound(descriptors)).toEqual(bound)
  expect(3 * bound.atMost).toBeLessThanOrEqual(descriptors - Math.min(1_024, descriptors / 2))
})
