import { setTimeout as sleep } from 'node:timers/promises'
import { parseCertificate } from '../core/certificate.ts'
import { systemClock } from '../core/clock.ts'
import type {
  AgentNodeAttestor,
  KeyManager,
  NodeAttestor,
  UpstreamAuthority,
  WorkloadAttestor,
} from '../core/plugin.ts'
import type { Half, ReadHost, ServerHost } from '../plugins/plugin.ts'
import { REGISTRY } from '../plugins/registry.ts'
import { nodeVerifier } from '../plugins/signer.ts'
import type { Implementation } from './kinds.ts'
import type { GivenConfiguration, PluginHost, PluginProgram } from './program.ts'
import { servedKeyManager } from './serve-key-manager.ts'
import { servedAgentNodeAttestor, servedNodeAttestor } from './serve-node-attestor.ts'
import { servedUpstreamAuthority } from './serve-upstream-authority.ts'
import { servedWorkloadAttestor } from './serve-workload-attestor.ts'

/** How a built-in plugin becomes one out of process. */
const SERVED = {
  'server/KeyManager': servedKeyManager,
  'agent/KeyManager': servedKeyManager,
  'server/NodeAttestor': servedNodeAttestor,
  'agent/NodeAttestor': servedAgentNodeAttestor,
  'server/UpstreamAuthority': servedUpstreamAuthority,
  'agent/WorkloadAttestor': servedWorkloadAttestor,
}
export type ServedKind = keyof typeof SERVED

type BuiltIn = KeyManager & NodeAttestor & AgentNodeAttestor & UpstreamAuthority & WorkloadAttestor

/**
 * A plugin that is built into Turret, for a SPIRE that starts it. Those that live in the server's database, and the join token, cannot.
 * @throws Error if there is none of that name
 */
export async function builtIn<K extends ServedKind>(
  kind: K,
  name: string,
): Promise<PluginProgram<K, GivenConfiguration>> {
  const [side, type] = kind.split('/') as ['server' | 'agent', keyof typeof REGISTRY]
  const named = REGISTRY[type] as Readonly<Record<string, () => Promise<{ readonly default: unknown }>>>
  const declaration = Object.hasOwn(named, name) ? (await named[name]!()).default : undefined
  const half = (declaration as Partial<Record<string, Half<BuiltIn | undefined, ReadHost>>> | undefined)?.[side]
  if (!half) throw new Error(`no built-in plugin "${name}" for type "${type}"`)
  const check = ({ data, trustDomain }: GivenConfiguration) => half.check(data, { trustDomain, dataDir: '.' })
  return {
    kind,
    async read(given) {
      await check(given)
      return given
    },
    notes: check,
    async make(given, host) {
      const made = await half.make(given.data, hostOf(given, host))
      if (!made) throw new Error(`the plugin "${name}" is part of the server`)
      return SERVED[kind](made) as Implementation<K>
    },
  }
}

function hostOf({ trustDomain }: GivenConfiguration, host: PluginHost): ServerHost {
  return {
    trustDomain,
    dataDir: '.',
    clock: systemClock,
    random: (bytes) => crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>),
    verify: nodeVerifier(),
    log: host.log,
    signal: host.signal,
    env: process.env,
    wait: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
    async roots() {
      const { bundle } = await host.fetchX509Identity()
      return (bundle?.x509Authorities ?? []).map(({ asn1 }) => parseCertificate(asn1))
    },
    async connectUpstream() {
      throw new Error('a nested server needs its own process: use the plugin of the host')
    },
  }
}
