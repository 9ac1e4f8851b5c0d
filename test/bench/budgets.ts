/** Where a measurement runs: which process is loaded, and what has to be there before. */
export type Setting = 'server' | 'server-5k' | 'agent'

export interface Budget {
  readonly setting: Setting
  /** CPU milliseconds of the process under test per operation that we may need at most, and what we aim at. */
  readonly atMost: number
  readonly aim: number
  /** What one operation is. */
  readonly unit: string
}

/** The measurements of the load generator, in the order they run, with the budgets of the design. */
export const BUDGETS: Readonly<Record<string, Budget>> = {
  'mint-jwt': { setting: 'server', atMost: 0.2, aim: 0.13, unit: 'token' },
  'mint-x509': { setting: 'server', atMost: 0.3, aim: 0.18, unit: 'SVID' },
  'get-bundle': { setting: 'server', atMost: 0.1, aim: 0.06, unit: 'call' },
  'batch-x509': { setting: 'server-5k', atMost: 0.25, aim: 0.1, unit: 'SVID, 50 a call' },
  'new-jwt': { setting: 'server-5k', atMost: 0.25, aim: 0.15, unit: 'token, agent with 5k entries' },
  'sync-lean': { setting: 'server-5k', atMost: 0.5, aim: 0.1, unit: 'sync of 5k entries, none changed' },
  'sync-full': { setting: 'server-5k', atMost: 5, aim: 1, unit: 'sync of 5k entries, all of them' },
  'list-entries': { setting: 'server-5k', atMost: 3, aim: 1, unit: 'page of 500' },
  'create-entries': { setting: 'server-5k', atMost: 0.5, aim: 0.15, unit: 'entry, 50 a call' },
  'fetch-x509': { setting: 'agent', atMost: 0.25, aim: 0.12, unit: 'stream to its first response' },
  'fetch-jwt': { setting: 'agent', atMost: 0.2, aim: 0.1, unit: 'cached token' },
  'validate-jwt': { setting: 'agent', atMost: 0.25, aim: 0.12, unit: 'token' },
  'hold-x509': { setting: 'agent', atMost: 0.8, aim: 0.8, unit: 'stream, 1000 connections' },
}

/** Budgets of a process that does nothing yet: seconds from its start to a healthy answer, resident MiB. */
export const AT_REST = {
  server: { startSeconds: 0.4, rssMiB: 120 },
  agent: { startSeconds: undefined, rssMiB: 90 },
} as const

/** Entries below one agent in the `server-5k` setting. */
export const MANY_ENTRIES = 5000
