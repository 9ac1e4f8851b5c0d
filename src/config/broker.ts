import { parseSpiffeId } from '../core/spiffe-id.ts'
import type { DecodedObject, Fields } from './decode.ts'
import { ConfigError, prefixed } from './hcl.ts'

/** `experimental { broker { } }` of an agent. */
export const BROKER = {
  socket_path: 'string',
  bind_address: 'string',
  brokers: {
    list: { id: 'string', allowed_reference_types: { list: { type_url: 'string', allow_over_tcp: 'bool' } } },
  },
} as const satisfies Fields

/** @throws ConfigError with SPIRE's texts */
export function checkBroker(broker: DecodedObject<typeof BROKER>): void {
  const path = 'experimental.broker'
  if (!broker.socket_path && !broker.bind_address) {
    throw new ConfigError(`${path} requires socket_path, bind_address, or both`)
  }
  const seen = new Set<string>()
  for (const [index, { id }] of (broker.brokers ?? []).entries()) {
    if (!id) throw new ConfigError(`${path}.brokers[${index}].id: must be specified`)
    if (seen.has(id)) throw new ConfigError(`${path}.brokers[${id}].id: duplicate broker id`)
    seen.add(id)
  }
  for (const { id = '', allowed_reference_types: types = [] } of broker.brokers ?? []) {
    const which = `${path}.brokers[${id}]`
    prefixed(`${which}.id`, () => parseSpiffeId(id))
    const list = `${which}.allowed_reference_types`
    if (types.length === 0) throw new ConfigError(`${list}: must list at least one reference type URL`)
    for (const [index, { type_url: url }] of types.entries()) {
      if (!url) throw new ConfigError(`${list}[${index}].type_url: must be specified`)
      if (url === '*' && types.length > 1) {
        throw new ConfigError(`${list}: wildcard "*" must be the only allowed reference type`)
      }
    }
  }
}
