import type { Kind, PluginDeclaration } from './plugin.ts'

type Load<K extends Kind> = () => Promise<{ readonly default: PluginDeclaration<K> }>

/** Every built-in plugin, by kind and name as in the configuration: one line each, loaded when a configuration names it. */
export const REGISTRY: { readonly [K in Kind]: Readonly<Record<string, Load<K>>> } = {
  DataStore: {
    sql: () => import('./datastore/sql.ts'),
  },
  KeyManager: {
    aws_kms: () => import('./keymanager/aws_kms/plugin.ts'),
    database: () => import('./keymanager/database/plugin.ts'),
    disk: () => import('./keymanager/disk.ts'),
    hashicorp_vault: () => import('./keymanager/hashicorp_vault/plugin.ts'),
    memory: () => import('./keymanager/memory.ts'),
  },
  NodeAttestor: {
    join_token: () => import('./nodeattestor/join_token/plugin.ts'),
    x509pop: () => import('./nodeattestor/x509pop/plugin.ts'),
  },
  UpstreamAuthority: {
    disk: () => import('./upstreamauthority/disk.ts'),
    spire: () => import('./upstreamauthority/spire/plugin.ts'),
  },
  WorkloadAttestor: {
    docker: () => import('./workloadattestor/docker/plugin.ts'),
    slurm: () => import('./workloadattestor/slurm/plugin.ts'),
    unix: () => import('./workloadattestor/unix/plugin.ts'),
  },
  Notifier: {},
  BundlePublisher: {},
  CredentialComposer: {},
  SVIDStore: {},
}

/** How many plugins of a kind a configuration has. */
export interface Cardinality {
  readonly min: number
  readonly max: number
}

const ONE: Cardinality = { min: 1, max: 1 }
const ANY: Cardinality = { min: 0, max: 64 }

/** The kinds of a server. */
export const SERVER_CARDINALITIES = {
  DataStore: ONE,
  KeyManager: ONE,
  NodeAttestor: ANY,
  UpstreamAuthority: { min: 0, max: 1 },
  Notifier: ANY,
  BundlePublisher: ANY,
  CredentialComposer: ANY,
} satisfies Partial<Record<Kind, Cardinality>>

/** The kinds of an agent. */
export const AGENT_CARDINALITIES = {
  KeyManager: ONE,
  NodeAttestor: ONE,
  WorkloadAttestor: { min: 1, max: 64 },
  SVIDStore: ANY,
} satisfies Partial<Record<Kind, Cardinality>>
